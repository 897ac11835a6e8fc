"""From images to features to scores."""
