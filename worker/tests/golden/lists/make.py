# Makes the lists of this folder. Needs numpy.
import os
import pickle

import numpy as np

out = os.path.dirname(os.path.abspath(__file__))
# YFCC15M's list at each pickle protocol, as pickle.dump writes it.
samples = [
    (12345678, "A title", "Its description, longer"),
    (12345679, "", "Only a description"),
    (12345000, "Only a title", ""),
    (7, "", ""),
    (99999999, "Übersicht", "日本"),
    (12345678, "The same image again", ""),
]
for protocol in (2, 3, 4, 5):
    with open(f"{out}/yfcc15m_protocol{protocol}.pkl", "wb") as file:
        pickle.dump(samples, file, protocol=protocol)
# What samples have in common is written once: a list of captions, a text, a whole sample.
captions = ["a photo of it", "a drawing of it"]
shared = [{"image_id": f"{i:02d}.jpg", "captions": captions} for i in range(1500)]
shared += [shared[3], {"image_id": shared[4]["image_id"], "captions": np.array(captions, dtype=object)}]
np.save(f"{out}/shared.npy", np.array(shared, dtype=object), allow_pickle=True)
# One sample, for which Python writes APPEND in place of APPENDS.
np.save(f"{out}/one.npy", np.array([{"image_id": np.int64(3), "captions": ("x",)}], dtype=object), allow_pickle=True)
with open(f"{out}/dict.pkl", "wb") as file:
    pickle.dump({"a": 1}, file)
# YFCC100M's list, and what Python makes of titles and descriptions: decoded, plus signs to spaces, without links,
# emphasis and addresses.
import json
import re
from urllib.parse import unquote

TEXTS = [
    ("A+title%2C+encoded", "Plain"),
    ("%3Ca+href%3D%22http%3A%2F%2Fx.y%2F%22+rel%3D%22nofollow%22%3Elink%3C%2Fa%3E+and+%3Cb%3Ebold%3C%2Fb%3E", "see+http%3A%2F%2Fa.b%2Fc%3Fd+end"),
    ("1%2B1%3D2", "www.flickr.com%2Fx+%3Ci%3Ei%3C%2Fi%3E"),
    ("", "%C3%9Cbersicht+%E6%97%A5%E6%9C%AC"),
    ("100%25+%zz+%E3%28+%FF", "two%0Alines%3Ca%0Ab%3E%3C%2Fa%3E"),
    ("not in the subset", "x"),
    ("not downloaded", "x"),
]
numbers = [3, 5, 7, 11, 12, 13, 14]


def cleaned(text):
    text = unquote(text).replace("+", " ")
    for pattern in ("<a.*?>|</a>|<b>|</b>|<i>|</i>", r"http\S+|www\S+"):
        text = re.sub(pattern, "", text)
    return text


np.save(f"{out}/ids.npy", np.array([3, 5, 7, 11, 12, 13], dtype=np.int64))
with open(f"{out}/subset.tsv", "w") as file:
    file.writelines(f"{number}\tphoto\thash\n" for number in (14, 3, 5, 7, 11, 12, 99999999))
with open(f"{out}/dataset.txt", "w") as file:
    for number, (title, description) in zip(numbers, TEXTS):
        columns = [number, 1000 + number, "hash", "user", "name", "date", "date", "camera", title, description]
        file.write("\t".join(map(str, columns + [""] * 3 + ["url", 0])) + "\n")
with open(f"{out}/cleaned.json", "w") as file:
    kept = [[n, *map(cleaned, texts)] for n, texts in zip(numbers, TEXTS) if n < 13]
    json.dump(kept, file, indent=0)
