"""Explorables: things to move. The arithmetic and the drawing live in an ES module, so that the same thing moves on a
page without a kernel, in JupyterLab and in Colab; beside each module is its thin Python face.

    BilinearForm(M=[[0, 1], [-1, 0]])
"""

from .bilinear_form import BilinearForm
from .btt_steps import BTTSteps
from .cache_rings import CacheRings
from .face import MIME, Explorable, module_text
from .fair_budget import FairBudget
from .family_morph import FamilyMorph
from .head_browser import HeadBrowser
from .matrix_zoo import MatrixZoo
from .pair_explorer import PairExplorer
from .prompt_reader import PromptReader
from .rank_budget import RankBudget
from .rank_sphere import RankSphere
from .three_floors import ThreeFloors
from .tile_path import TilePath
from .what_to_buy import WhatToBuy

FACES = (
    BilinearForm,
    RankSphere,
    PromptReader,
    MatrixZoo,
    BTTSteps,
    RankBudget,
    FamilyMorph,
    PairExplorer,
    TilePath,
    ThreeFloors,
    CacheRings,
    WhatToBuy,
    FairBudget,
    HeadBrowser,
)

__all__ = [
    "FACES",
    "MIME",
    "BTTSteps",
    "BilinearForm",
    "CacheRings",
    "Explorable",
    "FairBudget",
    "FamilyMorph",
    "HeadBrowser",
    "MatrixZoo",
    "PairExplorer",
    "PromptReader",
    "RankBudget",
    "RankSphere",
    "ThreeFloors",
    "TilePath",
    "WhatToBuy",
    "module_text",
]
