"""What the pipeline costs, beside the fastest way there is and beside other tools: ``scripts/bench``.

    __main__.py   the command         page.py     docs/performance.md     chart.py    plots for it
    ways.py       from a bucket, or from files, to tables: one function a way of doing it
    peers/        the other ways, each a program of its own, with packages of its own
    rig.py        the parts that every measurement runs against, new for each
    cost.py       seconds, CPU and memory of a process and of the server
    versions.py   this version beside another one
    loading.py  small.py  networks.py  auditing.py  idle.py  readers.py  history.py  growth.py    the parts of the page

All that is made is in .cache/bench; what is measured is only compared within one run.
"""
