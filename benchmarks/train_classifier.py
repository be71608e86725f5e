"""Train the digit classifier whose weights are in the package, and replace them.

    python benchmarks/train_classifier.py [PATH]

Trains on clean digits, shifted by up to two pixels, for eight epochs with one seed. Takes a few minutes on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from pipeline.data.images import EIGHT_BITS
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.scoring.digit_reader import WEIGHTS, DigitClassifier

EPOCHS, BATCH, LR = 8, 256, 0.01


def main(path: Path) -> None:
    source = BundledMNIST()
    train, test = (EIGHT_BITS.to_tensor(torch.from_numpy(part.copy())) for part in source.images())
    labels = torch.from_numpy(source.train_labels().astype(np.int64))
    torch.manual_seed(0)
    model = DigitClassifier()
    steps = EPOCHS * -(-len(train) // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for epoch in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(train)).split(BATCH):
            down, right = torch.randint(-2, 3, (2,)).tolist()
            loss = functional.cross_entropy(model(train[batch].roll((down, right), (2, 3))), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        read = model.eval().read(test).numpy()
        print(
            f"epoch {epoch + 1}: loss {loss.item():.4f}, {np.mean(read == source.test_labels()):.2%} of the test digits"
        )
    np.savez_compressed(path, **{name: value.numpy() for name, value in model.state_dict().items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS)
