"""What every test starts from, so that no test depends on the one before it or on the process that runs it."""

import os
import random

if "PYTEST_XDIST_WORKER" in os.environ:  # before numpy and torch start their threads: the other cores have workers too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait, and there are cores for other tests

import numpy as np
import pytest
import torch

# Files that take half a minute or more, the longest first: none of them shall begin when the others are done.
LONGEST = (
    "test_studio_page",
    "test_studio_server",
    "test_painters",
    "test_pipeline",
    "test_demo_batch",
    "test_evaluate_report",
    "test_wheel",
    "test_models_training",
    "test_models_training_engine",
    "test_mini_train",
    "test_mini_measure",
)


def pytest_collection_modifyitems(items):
    """With xdist's --no-loadscope-reorder, files are begun in this order."""
    rank = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Seeds before the fixtures: a fixture of a module draws the same numbers whichever test asks for it first."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _threads_and_folder_are_put_back():
    threads, folder = torch.get_num_threads(), os.getcwd()
    yield
    os.chdir(folder)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
