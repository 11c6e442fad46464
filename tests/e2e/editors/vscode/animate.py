"""Pictures to a GIF: `animate.py FOLDER FILE.gif`. Their names are NUMBER-MS.png, MS
being the milliseconds for which one is shown.

Equal neighbours become one frame, and all frames share one palette, so that the file
stays small.
"""

import sys
from pathlib import Path

from PIL import Image, ImageChops

COLOURS = 64


def main(folder: Path, out: Path) -> None:
    frames: list[Image.Image] = []
    durations: list[int] = []
    for file in sorted(folder.glob("*.png")):
        picture = Image.open(file).convert("RGB")
        shown_ms = int(file.stem.partition("-")[2])
        if frames and ImageChops.difference(picture, frames[-1]).getbbox() is None:
            durations[-1] += shown_ms
        else:
            frames.append(picture)
            durations.append(shown_ms)
    palette = frames[-1].quantize(COLOURS)
    plain = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    first, *others = plain
    first.save(out, save_all=True, append_images=others, duration=durations, loop=0)
    print(f"{out}: {len(frames)} frames, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
