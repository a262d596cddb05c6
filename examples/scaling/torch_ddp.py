"""A LayerHub model under torch's DistributedDataParallel, in two processes (gloo; nccl where there are GPUs):

    torchrun --nproc_per_node=2 examples/scaling/torch_ddp.py

``model.native`` is an nn.Module whose parameters are the model's own weights. DistributedDataParallel wraps it like any
other; after training the weights are in the model, and it goes on to numpy.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
import torch.distributed as dist
from common import MOMENTUM, RATE, batches, classifier, compare
from torch.nn.functional import nll_loss
from torch.nn.parallel import DistributedDataParallel


def train(module: torch.nn.Module, share: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """A plain torch loop over the share of each batch that this process has; gives the mean loss of each step."""
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
    losses = []
    for x, y in batches():
        images, classes = share(torch.from_numpy(x)), share(torch.from_numpy(y))
        optimizer.zero_grad()
        loss = nll_loss(torch.log(module(images)), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def main() -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    model = classifier("torch")
    losses = torch.stack(train(DistributedDataParallel(model.native.train()), lambda batch: batch[rank::size]))
    dist.all_reduce(losses)
    if rank == 0:
        print(f"torch, {size} processes")
        alone = classifier("torch")
        one = train(alone.native.train(), lambda batch: batch)
        compare((losses / size).tolist(), torch.stack(one).tolist(), model, alone.get_weights())
    dist.barrier()
    # What is left of DistributedDataParallel holds the group, whose threads are to end before the process does.
    gc.collect()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
