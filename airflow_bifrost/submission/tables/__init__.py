"""Tables as input: frames, Arrow data, cursors and files of many formats become rows, and a prompt makes a request of each row.

``objects`` reads tables in memory, ``files`` reads open files, ``prompts`` turns table rows into request rows and passes on the
columns that the results carry.
"""
