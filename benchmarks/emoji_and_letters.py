"""Make two sets of images that no rule of ours was made with: emoji of four vendors, and letters of four kinds of font.

    mkdir archives && cd archives
    npm pack emoji-datasource-{apple,google,twitter,facebook}@16.0.0
    npm pack $(python ../benchmarks/emoji_and_letters.py --fonts) && cd ..
    python benchmarks/emoji_and_letters.py archives made
    ftransfer extract made/emoji --out emoji --backbone squeezenet1_1
    ftransfer extract made/letters --out letters --backbone squeezenet1_1
    python benchmarks/proving_ground.py emoji letters --without forest --only emoji      (and --only letters)

Emoji: 12 classes by what they show, one domain a vendor; each emoji goes to one vendor only, by chance, so that no two
domains show the same thing. Letters: A to J in 20 fonts a domain (serif, sans, handwriting, display), black on white.
Images of 128 x 128 pixels, `<set>/<domain>/<class>/*.png`. The archives come from the npm registry; the vendors' and
fonts' licences are in them.
"""

import argparse
import io
import json
import random
import re
import sys
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE = 128
VENDORS = ("apple", "google", "twitter", "facebook")
CLASSES = {  # by subcategory of emoji.json: the whole name, or its beginning where it ends with a hyphen
    "face": "face-",
    "animal": "animal-mammal animal-bird animal-bug animal-marine animal-reptile",
    "food": "food-prepared food-asian food-sweet food-fruit food-vegetable",
    "vehicle": "transport-ground transport-air transport-water",
    "building": "place-building place-religious",
    "clothing": "clothing",
    "person": "person-role person-activity person-sport",
    "hand": "hand- body-parts",
    "sport": "sport game award-medal",
    "sky": "sky",
    "tool": "tool household",
    "paper": "office book-paper mail",
}
FONTS = {
    "serif": "merriweather lora playfair-display pt-serif eb-garamond crimson-text libre-baskerville bitter "
    "noto-serif arvo cormorant-garamond vollkorn spectral domine cardo gelasio source-serif-4 alegreya cinzel "
    "old-standard-tt",
    "sans": "roboto open-sans lato montserrat oswald raleway nunito poppins ubuntu rubik work-sans fira-sans karla "
    "cabin quicksand josefin-sans dosis exo-2 barlow mulish",
    "handwriting": "pacifico dancing-script caveat satisfy great-vibes kalam sacramento indie-flower "
    "shadows-into-light permanent-marker courgette cookie kaushan-script yellowtail parisienne handlee patrick-hand "
    "gloria-hallelujah amatic-sc homemade-apple",
    "display": "lobster bangers bebas-neue righteous press-start-2p abril-fatface alfa-slab-one monoton creepster "
    "fredoka passion-one russo-one titan-one bungee black-ops-one audiowide luckiest-guy special-elite "
    "unifrakturcook rubik-mono-one",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs="?", type=Path, metavar="ARCHIVES", help="folder of the .tgz files")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT", help="folder for emoji/ and letters/")
    parser.add_argument("--fonts", action="store_true", help="only print the names of the fonts' archives")
    options = parser.parse_args()
    if options.fonts:
        print(*(f"@fontsource/{name}" for names in FONTS.values() for name in names.split()))
        return
    if options.out is None:
        sys.exit("error: a folder of archives and a folder for the images are needed")
    print(draw_emoji(options.archives, options.out / "emoji"), "emoji")
    print(draw_letters(options.archives, options.out / "letters"), "letters")


def draw_emoji(archives, out):
    """Write each emoji as its vendor draws it, on white; return how many."""
    chance, written = random.Random(0), 0
    opened = {vendor: open_one(archives, f"emoji-datasource-{vendor}") for vendor in VENDORS}
    for emoji in json.load(opened["apple"].extractfile("package/emoji.json")):
        vendor, name = chance.choice(VENDORS), class_of(emoji["subcategory"].split(" ")[0])
        if name is None or not emoji[f"has_img_{vendor}"]:
            continue
        try:
            file = opened[vendor].extractfile(f"package/img/{vendor}/64/{emoji['image']}")
        except KeyError:
            continue
        drawn = Image.open(file).convert("RGBA")
        image = Image.new("RGBA", drawn.size, "white")
        image.alpha_composite(drawn)
        write(image, out / vendor / name / emoji["image"])
        written += 1
    return written


def class_of(subcategory):
    for name, theirs in CLASSES.items():
        for each in theirs.split():
            if subcategory == each or (each.endswith("-") and subcategory.startswith(each)):
                return name
    return None


def draw_letters(archives, out):
    """Write the letters of each font, as large as they fit; return how many."""
    written = 0
    for domain, names in FONTS.items():
        for name in names.split():
            with open_one(archives, f"fontsource-{name}") as archive:
                styles = [m for m in archive.getnames() if re.search(r"-latin-\d+-normal\.woff$", m)]
                regular = min(styles, key=lambda m: ("-400-" not in m, m))
                font = ImageFont.truetype(io.BytesIO(archive.extractfile(regular).read()), 96)
            for letter in "ABCDEFGHIJ":
                left, top, right, bottom = font.getbbox(letter)
                side = 40 + max(right - left, bottom - top)
                image = Image.new("L", (side, side), 255)
                at = (side - right + left) // 2 - left, (side - bottom + top) // 2 - top
                ImageDraw.Draw(image).text(at, letter, font=font, fill=0)
                write(image, out / domain / letter / f"{name}.png")
                written += 1
    return written


def open_one(archives, name):
    """Open the archive of a package, of whatever version."""
    found = [f for f in sorted(archives.glob(f"{name}-*.tgz")) if re.match(rf"{name}-\d+\.\d", f.name)]
    if not found:
        sys.exit(f"error: {archives} has no archive of {name}: npm pack it there")
    return tarfile.open(found[-1])


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)


if __name__ == "__main__":
    main()
