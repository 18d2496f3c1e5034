"""The size of each picture, written out for each trainer: twelve aspect ratios, pictures that are tiny, huge or narrow.

The values are those of the trainers' published functions; "-" stands for a picture for which the trainer stops with an
error or has a side of 0 pixels.
"""

import pytest
from relatent.engine.errors import ImageError
from relatent.engine.inputs.buckets.registry import TRAINERS, parse_buckets

TABLES = {
    "sd-scripts": """
found        512          1024x768     640,step=32,min=320,max=1280  512,no-upscale  1024,step=32,no-upscale
1000x1000    512x512      832x832      640x640                       512x512         992x992
1003x1000    512x512      832x832      640x640                       448x448         992x992
1280x1024    576x448      960x768      704x576                       512x384         1120x896
1600x1200    576x448      1024x768     736x544                       512x384         1152x864
1500x1000    640x384      1024x704     768x512                       576x384         1248x832
1920x1080    640x384      1024x576     832x480                       640x384         1344x768
2000x1000    704x320      1024x512     896x448                       640x320         1408x704
2560x1097    768x320      1024x448     960x416                       768x320         1472x640
3000x1000    832x256      1024x320     1088x352                      768x256         1728x576
1024x1280    448x576      768x960      576x704                       384x512         896x1120
1200x1600    448x576      768x1024     544x736                       384x512         864x1152
4000x6000    384x640      704x1024     512x768                       384x576         832x1248
1080x1920    384x640      576x1024     480x832                       384x640         768x1344
70x50        576x448      1024x704     736x544                       -               64x32
300x200      640x384      1024x704     768x512                       256x192         288x192
12000x9000   576x448      1024x768     736x544                       512x384         1152x864
4000x400     1024x256     1024x256     1280x320                      1280x128        3200x320
300x2600     256x1024     256x1024     320x1280                      128x1088        288x2592
832x1216     384x640      704x1024     512x768                       384x576         832x1216
""",
    "musubi": """
found        960x544      1024         512,step=32  1024,no-upscale
1000x1000    720x720      1024x1024    512x512      992x992
1003x1000    720x720      1024x1024    512x512      992x992
1280x1024    816x640      1136x912     576x448      1136x912
1600x1200    832x624      1184x880     576x448      1184x880
1500x1000    880x592      1248x832     608x416      1248x832
1920x1080    960x544      1360x768     672x384      1360x768
2000x1000    1008x512     1456x720     736x352      1456x720
2560x1097    1088x480     1552x672     800x320      1552x672
3000x1000    1248x416     1760x592     896x288      1760x592
1024x1280    640x816      912x1136     448x576      912x1136
1200x1600    624x832      880x1184     448x576      880x1184
4000x6000    592x880      832x1248     416x608      832x1248
1080x1920    544x960      768x1360     384x672      768x1360
70x50        848x608      1200x864     608x416      64x48
300x200      880x592      1248x832     608x416      288x192
12000x9000   832x624      1184x880     576x448      1184x880
4000x400     1472x352     2048x512     1024x256     2048x512
300x2600     352x1472     512x2048     256x1024     288x2592
832x1216     592x880      848x1232     416x608      832x1216
""",
    "ai-toolkit": """
found        512          1024         1024,step=32  512,sdxl-list  1024,step=8,sdxl-list
1000x1000    512x512      992x1008     992x1024      512x512        1000x1000
1003x1000    512x512      992x1008     992x1024      512x512        1000x1000
1280x1024    560x464      1136x912     1120x928      576x448        1088x896
1600x1200    576x448      1168x896     1152x896      576x416        1152x832
1500x1000    624x416      1248x832     1248x832      608x416        1216x832
1920x1080    672x384      1360x768     1344x768      672x384        1344x768
2000x1000    736x352      1456x720     1472x704      704x352        1408x704
2560x1097    768x336      1552x672     1536x672      768x320        1536x640
3000x1000    896x288      1760x592     1792x576      864x288        1728x576
1024x1280    464x560      912x1136     928x1120      448x576        896x1088
1200x1600    448x576      896x1168     896x1152      416x576        832x1152
4000x6000    416x624      832x1248     832x1248      416x608        832x1216
1080x1920    384x672      768x1360     768x1344      384x672        768x1344
70x50        80x48        80x48        96x32         64x48          64x48
300x200      288x208      288x208      320x192       288x192        288x192
12000x9000   576x448      1168x896     1152x896      576x416        1152x832
4000x400     1632x160     3248x320     3264x320      1024x256       2048x512
300x2600     160x1520     304x2592     288x2624      256x1024       440x1760
832x1216     416x624      832x1216     832x1216      416x608        816x1192
""",
    "onetrainer": """
found        512          1024         1024,step=32  512,step=8   800x512
1000x1000    512x512      1024x1024    1024x1024     512x512      768x512
1003x1000    512x512      1024x1024    1024x1024     512x512      768x512
1280x1024    576x448      1152x896     1152x928      576x456      768x512
1600x1200    576x448      1152x896     1152x928      576x456      768x512
1500x1000    640x448      1280x832     1248x832      624x416      768x512
1920x1080    704x384      1344x768     1344x768      680x384      768x512
2000x1000    704x384      1472x704     1440x736      728x360      768x512
2560x1097    832x320      1600x640     1632x640      808x320      768x512
3000x1000    896x320      1792x576     1760x576      888x296      768x512
1024x1280    448x576      896x1152     928x1152      456x576      768x512
1200x1600    448x576      896x1152     928x1152      456x576      768x512
4000x6000    448x640      832x1280     832x1248      416x624      768x512
1080x1920    384x704      768x1344     768x1344      384x680      768x512
70x50        640x448      1152x896     1248x832      624x416      768x512
300x200      640x448      1280x832     1248x832      624x416      768x512
12000x9000   576x448      1152x896     1152x928      576x456      768x512
4000x400     1024x256     2048x512     2048x512      1024x256     768x512
300x2600     256x1024     512x2048     512x2048      256x1024     768x512
832x1216     448x640      832x1280     832x1248      416x624      768x512
""",
    "simpletuner": """
found        512          1024         1024,step=8,rounding=1  0.5,type=area  500,type=pixel,step=32
1000x1000    512x512      1024x1024    1024x1024               768x768        500x500
1003x1000    512x512      1024x1024    1024x1024               768x768        500x500
1280x1024    576x448      1152x896     1120x936                768x640        640x512
1600x1200    576x448      1152x896     1168x896                832x640        672x512
1500x1000    640x448      1280x832     1256x840                832x576        736x512
1920x1080    704x384      1344x768     1376x760                960x512        896x512
2000x1000    704x384      1472x704     1448x728                1024x512       992x512
2560x1097    768x320      1536x640     1552x672                1088x448       1152x512
3000x1000    896x320      1792x576     1776x592                1216x384       1504x512
1024x1280    448x576      896x1152     912x1144                640x768        512x640
1200x1600    448x576      896x1152     912x1144                640x832        512x672
4000x6000    448x640      832x1280     856x1224                576x832        512x736
1080x1920    384x704      768x1344     792x1320                512x960        512x896
70x50        576x448      1216x896     1208x864                832x576        704x512
300x200      640x448      1280x832     1256x840                832x576        736x512
12000x9000   576x448      1152x896     1168x896                832x640        672x512
4000x400     1600x192     3264x320     3240x320                2240x192       4992x512
300x2600     192x1472     384x2944     320x3240                256x2048       512x4160
832x1216     448x640      832x1216     856x1224                576x832        512x736
""",
}


def rows(table: str) -> list[tuple[str, str, str]]:
    """Return (settings, found, expected) for each field of a table."""
    (_, *settings), *lines = (line.split() for line in table.strip().splitlines())
    return [(text, line[0], size) for line in lines for text, size in zip(settings, line[1:], strict=True)]


def size_of(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


FIELDS = [(name, *row) for name, table in TABLES.items() for row in rows(table)]


def test_every_trainer_has_a_table():
    assert set(TABLES) == set(TRAINERS)
    assert len(FIELDS) == 19 * (5 + 4 + 5 + 5 + 5)


@pytest.mark.parametrize(("trainer", "settings"), sorted({(name, text) for name, text, _, _ in FIELDS}))
def test_targets_are_those_of_the_trainer(trainer, settings):
    rule = parse_buckets(f"{trainer}:{settings}")
    expected = {found: size for name, text, found, size in FIELDS if (name, text) == (trainer, settings)}
    found = {}
    for picture in expected:
        try:
            found[picture] = "x".join(map(str, rule.target(size_of(picture))))
        except ImageError:
            found[picture] = "-"
    assert found == expected
