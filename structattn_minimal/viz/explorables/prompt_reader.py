import traitlets as t

from .face import Explorable, number, whole


class PromptReader(Explorable):
    """Chapter 3: a prompt x_1, y_1, x_2, y_2, ... read token by token, with least squares guessing the next y.

    d: the dimension of x and w; the prompt has 2 d pairs.  position: how many tokens are read, up to 4 d.
    noise: the standard deviation of what is added to each y.  Raises `traitlets.TraitError` for values out of range.
    """

    module = "prompt_reader"
    alt = (
        "Explorable: a prompt of pairs x, y that is read token by token. Beside it the true "
        "weights, the least-squares estimate from the pairs so far, and the error of its next answer, which is zero "
        "from d pairs on."
    )
    d = whole(2, 6, 4)
    seed = whole(0, 2**31 - 1, 18)
    position = whole(0, 24, 5)
    noise = number(0, 1, 0)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.position > 4 * self.d:
            raise t.TraitError(f"position must be at most 4 d = {4 * self.d}, got {self.position}")
