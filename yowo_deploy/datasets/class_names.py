"""Class names: of the public data sets, in the order of their ids, and several in one text."""

from __future__ import annotations

import re
from itertools import pairwise


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in " ".join(text.split()).split(";"))


JHMDB21 = _names(
    """
    brush_hair; catch; clap; climb_stairs; golf; jump; kick_ball; pick; pour; pullup; push; run; shoot_ball;
    shoot_bow; shoot_gun; sit; stand; swing_baseball; throw; walk; wave
    """
)

UCF24 = _names(
    """
    Basketball; BasketballDunk; Biking; CliffDiving; CricketBowling; Diving; Fencing; FloorGymnastics; GolfSwing;
    HorseRiding; IceDancing; LongJump; PoleVault; RopeClimbing; SalsaSpin; SkateBoarding; Skiing; Skijet;
    SoccerJuggling; Surfing; TennisSwing; TrampolineJumping; VolleyballSpiking; WalkingWithDog
    """
)

# AVA v2.2; the first 14 are poses, of which a person has one.
AVA = _names(
    """
    bend/bow (at the waist); crawl; crouch/kneel; dance; fall down; get up; jump/leap; lie/sleep; martial art;
    run/jog; sit; stand; swim; walk; answer phone; brush teeth; carry/hold (an object); catch (an object); chop;
    climb (e.g., a mountain); clink glass; close (e.g., a door, a box); cook; cut; dig; dress/put on clothing;
    drink; drive (e.g., a car, a truck); eat; enter; exit; extract; fishing; hit (an object); kick (an object);
    lift/pick up; listen (e.g., to music); open (e.g., a window, a car door); paint; play board game; play musical
    instrument; play with pets; point to (an object); press; pull (an object); push (an object); put down; read;
    ride (e.g., a bike, a car, a horse); row boat; sail boat; shoot; shovel; smoke; stir; take a photo; text on/look
    at a cellphone; throw; touch (an object); turn (e.g., a screwdriver); watch (e.g., TV); work on a computer;
    write; fight/hit (a person); give/serve (an object) to (a person); grab (a person); hand clap; hand shake; hand
    wave; hug (a person); kick (a person); kiss (a person); lift (a person); listen to (a person); play with kids;
    push (another person); sing to (e.g., self, a person, a group); take (an object) from (a person); talk to (e.g.,
    self, a person, a group); watch (a person)
    """
)
AVA_POSES = 14


def parted(text: str) -> list[str]:
    """Names between commas; a comma in brackets is part of its name, as in `open (e.g., a window)`."""
    is_inside, ends = False, [len(text)]
    for sign in re.finditer(r"[,()\[\]{}]", text[::-1]):  # from the end, where each bracket says what is before it
        if sign[0] != ",":
            is_inside = sign[0] in ")]}"
        elif not is_inside:
            ends.append(len(text) - 1 - sign.start())
    parts = (text[begin + 1 : end].strip() for begin, end in pairwise([-1, *reversed(ends)]))
    return list(dict.fromkeys(filter(None, parts)))
