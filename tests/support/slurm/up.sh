#!/usr/bin/env bash
# A one-node Slurm on loopback, in about a second: up.sh DIR, then export SLURM_CONF=DIR/slurm.conf
# As root; on Debian: apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
# Eight CPUs and two pretend GPUs, no accounting (so no sacct); a requeued job begins again after six seconds.
set -euo pipefail
dir=$(realpath -m "$1")
host=$(hostname -s)
mkdir -p "$dir"/{munge,run,log,state,spool,dev}
chmod 755 "$dir/munge"
[ -e "$dir/dev/gpu0" ] || { mknod "$dir/dev/gpu0" c 1 3; mknod "$dir/dev/gpu1" c 1 3; }
head -c 1024 /dev/urandom > "$dir/munge/key"
chmod 600 "$dir/munge/key"

cat > "$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/sock,cred_expire=5
CredType=cred/munge
SlurmctldPort=${SLURM_TEST_PORT:-16817}
SlurmdPort=$((${SLURM_TEST_PORT:-16817} + 1))
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
InactiveLimit=0
KillWait=5
MinJobAge=300
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
cat > "$dir/gres.conf" <<CONF
AutoDetect=off
NodeName=$host Name=gpu File=$dir/dev/gpu[0-1]
CONF

export SLURM_CONF=$dir/slurm.conf
munged --force --socket="$dir/munge/sock" --key-file="$dir/munge/key" --log-file="$dir/munge/log" \
    --pid-file="$dir/munge/pid" --seed-file="$dir/munge/seed"
slurmctld -c
slurmd -N "$host"
for _ in $(seq 100); do
    [ "$(timeout 2 sinfo --noheader --format=%T 2>/dev/null)" = idle ] && exit 0  # it can hang
    sleep 0.1
done
tail "$dir"/log/* >&2
exit 1
