"""Submits one job of 4 nodes x 8 tasks with submitit, with what the script of a CLIP-rocket user imports.

That script loads its training code in order to know its options, and with it these packages. wandb and
textaugment are loaded there as well; they are left out here, which favours this side. Prints the job's id.
"""

import argparse

# What training code, models, data and text need at import.
import ftfy  # noqa: F401
import nltk  # noqa: F401
import numpy  # noqa: F401
import PIL.Image  # noqa: F401
import regex  # noqa: F401
import submitit
import timm  # noqa: F401
import torch.backends.cudnn  # noqa: F401
import torch.distributed  # noqa: F401
import torch.nn.parallel  # noqa: F401
import torch.optim  # noqa: F401
import torch.utils.data.distributed  # noqa: F401
import torchvision.datasets  # noqa: F401
import torchvision.transforms  # noqa: F401


class Trainer:
    """The job: called on every task, pickled until then."""

    def __init__(self, options):
        self.options = options

    def __call__(self):
        print(self.options)

    def checkpoint(self):
        """What a preempted job becomes."""
        return submitit.helpers.DelayedSubmission(Trainer(self.options))


def main():
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--partition", required=True)
    options = parser.parse_args()
    executor = submitit.AutoExecutor(folder=options.folder, slurm_max_num_timeout=30)
    executor.update_parameters(
        name="bench",
        nodes=4,
        gpus_per_node=8,
        tasks_per_node=8,
        cpus_per_task=1,
        mem_gb=40,
        timeout_min=60,
        slurm_partition=options.partition,
        slurm_signal_delay_s=120,
    )
    print(executor.submit(Trainer(options)).job_id)


if __name__ == "__main__":
    main()
