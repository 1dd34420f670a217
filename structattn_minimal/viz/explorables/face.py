"""What every explorable shares: its thin Python face, and the mime bundle that a page without a kernel reads."""

from importlib import resources

import anywidget
import traitlets as t

MIME = "application/vnd.structattn.explorable+json"


def module_text(name: str) -> str:
    """The ES module of an explorable: the shared controls, then its own text."""
    folder = resources.files(__package__)
    return "\n".join(folder.joinpath(file).read_text(encoding="utf-8") for file in ("controls.js", f"{name}.js"))


def number(low: float, high: float, default: float) -> t.Float:
    return t.Float(default, min=low, max=high).tag(sync=True)


def whole(low: int, high: int, default: int) -> t.Int:
    return t.Int(default, min=low, max=high).tag(sync=True)


def choice(*options: str) -> t.Enum:
    return t.Enum(options, options[0]).tag(sync=True)


class Explorable(anywidget.AnyWidget):
    """An anywidget whose mime bundle also carries what a page without a kernel needs: module, state, alt text."""

    module = ""  # the file, without .js
    alt = ""

    def __init_subclass__(cls, **kwargs):
        if "module" in cls.__dict__:  # not in the subclass that ipywidgets makes of each widget
            cls._esm = module_text(cls.module)
            cls.fields = [name for name, value in cls.__dict__.items() if isinstance(value, t.TraitType)]
        super().__init_subclass__(**kwargs)

    @property
    def state(self) -> dict:
        """What the module starts from: the explorable's own traits, as plain values."""
        return {name: getattr(self, name) for name in self.fields}

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        page = {"module": self.module, "state": self.state, "alt": self.alt}
        return {**data, "text/plain": f"{type(self).__name__}: {self.alt}", MIME: page}, metadata


def pairs(least: int, most: int) -> t.List:
    """A list of `least` to `most` pairs of finite numbers."""
    return t.List(t.List(t.Float(), minlen=2, maxlen=2), minlen=least, maxlen=most).tag(sync=True)
