"""The built-in target: a server that speaks Ollama's wire, with a scripted or a real engine.

    async with trio.open_nursery() as nursery:
        target = Target(ScriptedEngine(Script()))
        url = await nursery.start(serve, target)

It is the test rig's Ollama, and `foreman demo`'s. The engines are the scripted one
(`scripted`, deterministic, with faults on order) and `llama` (real inference, imported only when
it is asked for). `python -m foreman.embedded --help` runs it as a process of its own.
"""
