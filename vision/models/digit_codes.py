"""Pictures of the ten digits, 7 pixels wide and 12 high, as target codes of a network's last layer."""

import numpy as np

_PICTURES = """
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
..###..  ...#...  .#####.  .#####.  .....#.  #######  ...###.  #######  .#####.  .#####.
.#...#.  ..##...  #.....#  #.....#  ....##.  #......  ..#....  ......#  #.....#  #.....#
#.....#  .#.#...  ......#  ......#  ...#.#.  #......  .#.....  .....#.  #.....#  #.....#
#.....#  ...#...  ......#  ......#  ..#..#.  #......  #......  .....#.  #.....#  #.....#
#.....#  ...#...  .....#.  ..####.  .#...#.  ######.  #.####.  ....#..  .#####.  .######
#.....#  ...#...  ....#..  ......#  #....#.  ......#  ##....#  ....#..  #.....#  ......#
#.....#  ...#...  ...#...  ......#  #######  ......#  #.....#  ...#...  #.....#  ......#
#.....#  ...#...  ..#....  ......#  .....#.  ......#  #.....#  ...#...  #.....#  .....#.
.#...#.  ...#...  .#.....  #.....#  .....#.  #.....#  #.....#  ..#....  #.....#  ....#..
..###..  .#####.  #######  .#####.  .....#.  .#####.  .#####.  ..#....  .#####.  .###...
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


def digit_codes() -> np.ndarray:
    """Returns ``[10, 84]`` codes of +1 (ink) and -1, rows of the pictures one after the other.

    LeCun et al. 1998, section II-B and figure 3, use such pictures of all printable characters, so that characters
    that look alike, such as O and 0, get codes that are near to each other. The paper does not list its pixels: these
    pictures are drawn in its manner, in the same format.
    """
    rows = [line.split() for line in _PICTURES.split("\n") if line]
    ink = np.array([[[pixel == "#" for pixel in row[digit]] for row in rows] for digit in range(10)])
    return np.where(ink, 1.0, -1.0).reshape(10, -1).astype(np.float32)
