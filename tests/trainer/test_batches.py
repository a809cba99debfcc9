from collections import Counter

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.trainer.batches import BatchStream

LENGTHS = [3 + (index * 7) % 40 for index in range(50)]


def stream(seed=0):
    return BatchStream(LENGTHS, 8, RandomStream(seed).child("batches"))


def test_batch_of_a_step_does_not_depend_on_what_was_asked_before():
    forward = stream()
    in_order = [forward.batch(step) for step in range(40)]
    assert [stream().batch(step) for step in (0, 7, 23, 39)] == [in_order[step] for step in (0, 7, 23, 39)]
    assert forward.batch(3) == in_order[3]


def test_every_example_is_used_once_an_epoch():
    batches = stream()
    for epoch in range(3):
        used = Counter(index for step in range(epoch * 7, epoch * 7 + 7) for index in batches.batch(step))
        assert used == Counter(range(50))


def test_epochs_and_seeds_differ():
    batches = stream()
    assert [batches.batch(step) for step in range(7)] != [batches.batch(step) for step in range(7, 14)]
    assert stream(0).batch(0) != stream(1).batch(0)
