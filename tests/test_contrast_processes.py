"""Images and words over two processes: the losses, the retrieval and the parameters of one."""

import json
import sys

import numpy as np
import pytest
from test_contrast import config, write_captions
from test_distributed import free_address, run_together

from vision.training.checkpoint import load_arrays
from vision.training.logging import read_metrics


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    write_captions(tmp_path)
    retrieval = {"name": "caption_retrieval", "split": "val", "batch_size": 4, "k": (1, 2)}
    text = repr(
        {
            **config(evals={"retrieval": retrieval}),
            "data": {
                "name": f"captions:{tmp_path / 'captions.csv'}",
                "channels": 1,
                "tokens": {"vocab_size": 530, "length": 8},
            },
        }
    )
    settings = tmp_path / "config.py"
    settings.write_text(
        f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({text})\n"
    )
    results = {}
    for count in (1, 2):
        command = [sys.executable, "-m", "experiments.train", "--config", str(settings), "--json"]
        command += ["--workdir", str(tmp_path / str(count))]
        together = ["--coordinator_address", free_address(), "--num_processes", str(count), "--process_id"]
        commands = [[*command, *together, str(n)] if count > 1 else command for n in range(count)]
        outputs = run_together(commands, devices=2 // count)
        results[count] = json.loads(outputs[0][0].splitlines()[-1])["retrieval"]
    assert results[1] == results[2]
    one, two = (
        [each["train/loss"] for each in read_metrics(tmp_path / n / "metrics.jsonl") if "train/loss" in each]
        for n in "12"
    )
    np.testing.assert_allclose(one, two, rtol=1e-5)
    (_, one, told), (_, two, told_too) = (load_arrays(tmp_path / n, None) for n in "12")
    assert told["tokenizer"] == told_too["tokenizer"]
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-3, atol=1e-5, err_msg=name)
