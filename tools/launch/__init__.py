"""Programs that start others: on this machine in several processes, by SLURM, on TPU pods, on Kubernetes."""
