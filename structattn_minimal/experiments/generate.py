"""Text from a trained model: python -m structattn_minimal.experiments generate --from CHECKPOINT --prompt "..."

CHECKPOINT is a model that a run has saved (..._model.safetensors), or the checkpoint of one that still goes on.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch.nn.utils import vector_to_parameters

from ..checks import positive_int, require
from ..transformer import GPT, GPTConfig
from .alphabet import VOCAB_SIZE, decode, encode, spell
from .checkpoints import load_checkpoint
from .text import load_model, read_file, tuples


def load_either(path: str | Path) -> GPT:
    """The model at `path`, whether it is finished or on its way; of several that are trained at once, the first.

    Raises `FileNotFoundError` or `ValueError`, naming the file, as `load_model` and `load_checkpoint` do, and if the
    model does not read and write the alphabet.
    """
    path = Path(path)
    if path.is_file() and "words" not in read_file(path)[0]:
        model = load_model(path)
    else:
        tensors, words, _ = load_checkpoint(path)
        require("config" in words, f"{path} does not say which model it holds: a later run writes that")
        model = GPT(GPTConfig(**tuples(words["config"])))
        vector_to_parameters(tensors["theta"][0], model.parameters())
    vocab_size = model.config.vocab_size
    wanted = f"a model of the {VOCAB_SIZE} characters of the alphabet"
    require(vocab_size == VOCAB_SIZE, f"{path} must hold {wanted}, its vocab_size is {vocab_size}")
    return model.eval()


def continuation(model: GPT, prompt: str, characters: int, *, temperature: float = 1.0, seed: int = 0) -> str:
    """`characters` that follow `prompt`, as `GPT.generate` draws them; an empty prompt stands for a new line.

    When the context is full, the model goes on from the latter half of it: there is no position beyond.

    Raises `ValueError` if a number does not fit, and for a prompt with characters that the alphabet has not.
    """
    spelled, dropped = spell(prompt)
    require(not dropped, f"prompt must be in the alphabet, newline and printable ASCII, {dropped} of it is not")
    positive_int("characters", characters)
    context, device = model.config.context, model.position.device
    text, drawn = encode(spelled or "\n").long().to(device)[None], 0
    generator = torch.Generator(device).manual_seed(seed)
    while drawn < characters:
        known = text if text.shape[1] < context else text[:, -(context // 2) :]
        step = min(characters - drawn, context - known.shape[1])
        longer = model.generate(known, step, temperature=temperature, generator=generator)
        text, drawn = torch.cat([text, longer[:, known.shape[1] :]], dim=1), drawn + step
    return decode(text[0, -characters:])


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m structattn_minimal.experiments generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--from", dest="path", required=True, metavar="CHECKPOINT")
    parser.add_argument("--prompt", default="", help="what the text begins with; a new line by default")
    parser.add_argument("--characters", type=int, default=500, help="how many follow (default 500)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest each time (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    args = parser.parse_args(words)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch {torch.__version__} sees no GPU here")
    try:
        model = load_either(args.path).to(args.device)
        text = continuation(model, args.prompt, args.characters, temperature=args.temperature, seed=args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(args.prompt + text)
