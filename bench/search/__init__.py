"""What ``bench.tune`` is made of: space -> study -> worker -> trial -> findings and closing."""
