"""`internvl chat`: a conversation at a terminal."""

import asyncio

from internvl.cli.ask import Images, System, Timeout, Videos, media_of
from internvl.cli.interactive import Conversation, greet
from internvl.cli.option_groups import Connection, Generation, with_groups
from internvl.cli.output import reported_errors, show_upload
from internvl.client.session import ChatSession


@with_groups
def chat(
    *,
    image: Images = None,
    video: Videos = None,
    system: System = None,
    timeout: Timeout = 300.0,
    generation: Generation,
    connection: Connection,
) -> None:
    """Chat about images and videos; /help lists the commands."""
    visual, sampling = generation.visual, generation.sampling
    names = [path.name for path in (*(image or ()), *(video or ()))]
    with reported_errors(), asyncio.Runner() as runner:
        media = list(zip(names, media_of(image, video), strict=True))
        client = runner.run(greet(connection))

        def new_session(system: str | None) -> ChatSession:
            return ChatSession(client, system=system, visual=visual, sampling=sampling, on_upload=show_upload)

        try:
            Conversation(runner, new_session, system=system, media=media, timeout=timeout).run()
        finally:
            runner.run(client.close())
