"""Draw the pictures of the README from the demo faces: python docs/draw_pictures.py"""

from pathlib import Path

import cv2
import numpy as np

from siamtune.data.sources import open_source

PEOPLE = (3, 11, 25, 31)
PHOTOGRAPHS = 9

source = open_source("demo")
albums = [np.flatnonzero(source.identities == person)[:PHOTOGRAPHS] for person in PEOPLE]
rows = [np.hstack([source.pictures[i] for i in album]) for album in albums]
picture = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
path = Path(__file__).with_name("demo-faces.jpg")
cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
