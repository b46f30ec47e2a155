# shellcheck shell=bash
# Files of a cluster: slurm.conf and what goes with it. Sourced by scripts/cluster.sh.

# slurm_conf DIR PORT: the configuration, on standard output.
#
# The nodes claim more than the machine has (config_overrides), so that 32 ranks fit on a laptop. A requeued
# job starts again after cred_expire, two minutes in Slurm's own default. JobAcctGatherFrequency=0 and
# linuxproc need neither cgroups nor systemd.
slurm_conf() {
    local dir=$1 port=$2 host
    host=$(short_host)
    cat <<CONF
ClusterName=rocket$port
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/pid/slurmctld
SlurmdPidFile=$dir/pid/%n
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherFrequency=0
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
GresTypes=gpu
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdTimeout=${CLUSTER_SLURMD_TIMEOUT:-20}
KillWait=${CLUSTER_KILL_WAIT:-30}
ReturnToService=2
NodeName=n[1-4] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 4))] CPUs=16 RealMemory=64000 Gres=gpu:8 State=UNKNOWN
PartitionName=low Nodes=n[1-4] Default=YES PriorityTier=1 GraceTime=${CLUSTER_GRACE:-30} MaxTime=INFINITE State=UP
PartitionName=low0 Nodes=n[1-4] PriorityTier=1 GraceTime=0 MaxTime=INFINITE State=UP
PartitionName=lowc Nodes=n[1-4] PriorityTier=1 GraceTime=0 PreemptMode=CANCEL MaxTime=INFINITE State=UP
PartitionName=short Nodes=n[1-4] PriorityTier=1 GraceTime=${CLUSTER_GRACE:-30} DefaultTime=1 MaxTime=5 State=UP
PartitionName=theirs Nodes=n[1-4] PriorityTier=1 AllowAccounts=theirs MaxTime=INFINITE State=UP
PartitionName=high Nodes=n[1-4] PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
${CLUSTER_EXTRA:-}
CONF
}

# write_files DIR PORT: everything that the daemons need, for a cluster that does not exist yet.
write_files() {
    local dir=$1 port=$2 gpu
    mkdir -p "$dir"/{dev,log,munge,pid,spool,state}
    # Ours: what 'down' may remove.
    printf 'A Slurm cluster made by rocket; remove it with scripts/cluster.sh down.\n' >"$dir/.rocket-cluster"
    for gpu in 0 1 2 3 4 5 6 7; do
        # Slurm wants a device file behind every GPU; /dev/null does for one that nobody opens.
        [ -e "$dir/dev/nvidia$gpu" ] || mknod "$dir/dev/nvidia$gpu" c 1 3 2>/dev/null ||
            fail "the file system of '$dir' takes no device files, which stand for the GPUs. Choose another folder with CLUSTER_DIR."
    done
    printf 'NodeName=n[1-4] Name=gpu File=%s/dev/nvidia[0-7]\n' "$dir" >"$dir/gres.conf"
    # Nothing is confined; naming a plugin keeps slurmd from looking for systemd.
    printf 'CgroupPlugin=cgroup/v1\n' >"$dir/cgroup.conf"
    (umask 077 && head -c 1024 /dev/urandom >"$dir/munge/key")
    slurm_conf "$dir" "$port" >"$dir/slurm.conf"
}
