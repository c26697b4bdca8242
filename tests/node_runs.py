"""What exported functions give in Node."""

import json
import subprocess

import numpy as np

import tinygrad_rnn as tr


def ran_in_node(folder, functions, inputs=None):
    """Return the results of each function of its arguments as one flat array of float64; in one process.

    Args:
        folder: for the modules.
        functions: (function, arguments ...), for each; the arguments are named in its code.
        inputs: arguments to run each with, in place of those that it is exported with.
    """
    calls = {}
    for number, (function, *args) in enumerate(functions):
        tr.export(function, folder / f"f{number}.wasm", *args)
        args = args if inputs is None else inputs[number]
        given = [np.ravel(part.data if isinstance(part, tr.Tensor) else part).tolist() for part in args]
        calls[f"f{number}"] = dict(zip(function.__code__.co_varnames, given, strict=False))
    given = json.dumps(calls).replace("Infinity", "1e999").replace("NaN", "NAN")
    (folder / "run.mjs").write_text(
        f"const NAN = 0 / 0, made = [], calls = {given};\n"
        "for (const [file, given] of Object.entries(calls)) {\n"
        "  const { load } = await import(`./${file}.mjs`);\n"
        "  made.push(Object.values((await load()).step(given)).flatMap((y) => [...y].map(Number).map(String)));\n"
        "}\nconsole.log(JSON.stringify(made));\n"
    )
    done = subprocess.run(["node", str(folder / "run.mjs")], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return [np.array([float(y) for y in made]) for made in json.loads(done.stdout)]
