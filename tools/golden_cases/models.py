"""All networks that are compared with those of other libraries.

Only the standard library is needed here; the tests read this table as well as the tool does.
"""

from tools.golden_cases import convolutional, token_networks
from tools.golden_cases.case import Case

CASES: tuple[Case, ...] = (*convolutional.cases(), *token_networks.cases())
if len({case.name for case in CASES}) < len(CASES):
    raise ValueError("two cases have the same name")
