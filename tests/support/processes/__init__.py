"""Commands and programs: in this process or in one of their own, and the machine that set-up believes to be on.

`commands.py` asks a command without a process; `e2e_stack.py` starts the real stack. The others are run by one test.
"""
