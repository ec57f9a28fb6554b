"""Writes the images of this folder. Made with Pillow 13.0.0 on CPython 3.11:

    python3 make.py

IN.png is resized to IN_FILTER_WxH.png; COLOUR.EXT is converted to COLOUR.EXT.grey.png by convert("L").
"""
import math
import os

from PIL import Image

os.chdir(os.path.dirname(os.path.abspath(__file__)))
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SIZES = {"a_37x53": [(16, 16), (64, 64), (37, 20), (90, 53)],
         "b_96x64": [(48, 48), (32, 21), (12, 8), (128, 128)],
         "c_5x3": [(8, 8), (1, 1), (3, 3), (40, 9)],
         "d_1x7": [(8, 8), (3, 2)]}


def noise(seed):
    """A linear congruential generator, so that the inputs do not depend on a library."""
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield seed >> 56


def picture(w, h, seed):
    """Waves, noise and hard edges in 0..255."""
    n = noise(seed)
    values = []
    for y in range(h):
        for x in range(w):
            v = 128 + 70 * math.sin(x / 3 + seed) * math.cos(y / 5) + (next(n) - 128) / 3
            if (x // 7 + y // 5) % 4 == 0:
                v = 255 if x % 2 else 0
            values.append(max(0, min(255, int(v))))
    return values


for seed, (name, sizes) in enumerate(SIZES.items()):
    w, h = map(int, name.split("_")[1].split("x"))
    im = Image.new("L", (w, h))
    im.putdata(picture(w, h, seed))
    im.save(name + ".png")
    for label, f in FILTERS.items():
        for size in sizes:
            im.resize(size, f).save("%s_%s_%dx%d.png" % (name, label, *size))

rgb = Image.merge("RGB", [Image.new("L", (23, 17)) for _ in range(3)])
rgb.putdata(list(zip(picture(23, 17, 11), picture(23, 17, 12), picture(23, 17, 13))))
alpha = Image.new("L", (23, 17))
alpha.putdata(picture(23, 17, 14))
rgba = rgb.copy()
rgba.putalpha(alpha)
smooth = rgb.resize((46, 34), Image.Resampling.BICUBIC)
for name, im, options in [
        ("rgb.png", rgb, {}), ("rgba.png", rgba, {}), ("palette.png", rgb.quantize(40), {}),
        ("grey_alpha.png", rgba.convert("LA"), {}), ("bit.png", rgb.convert("1"), {}),
        ("rgb.bmp", rgb, {}), ("rgb.tif", rgb, {}), ("lzw.tif", rgb.convert("L"), {"compression": "tiff_lzw"}),
        ("grey.jpg", smooth.convert("L"), {"quality": 90}),
        ("colour.jpg", smooth, {"quality": 90, "subsampling": 0})]:
    im.save(name, **options)
    Image.open(name).convert("L").save(name + ".grey.png")

deep = Image.new("I;16", (16, 16))  # 16-bit values 257 i: i in 8 bits
deep.putdata([257 * i for i in range(256)])
deep.save("deep.png")
