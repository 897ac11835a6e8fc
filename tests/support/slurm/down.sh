#!/usr/bin/env bash
# End what up.sh DIR started.
dir=$(realpath -m "$1")
export SLURM_CONF=$dir/slurm.conf
timeout 5 scancel --user root --signal KILL --full
timeout 5 scancel --user root
for _ in $(seq 20); do
    [ -z "$(timeout 2 squeue --noheader)" ] && break
    sleep 0.2
done
for file in run/slurmd.pid run/slurmctld.pid munge/pid; do
    [ -e "$dir/$file" ] && kill "$(cat "$dir/$file")"
done
exit 0
