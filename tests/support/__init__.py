"""What tests stand on, by what it stands in for; imported as `support.ROOM.MODULE`.

`episodes` and `runs` are played and written by the real code; `services`, `models` and `processes` stand in for what
surrounds it; `crashes` and `hostile` are against it. Open `episodes/fakes.py` first.
"""
