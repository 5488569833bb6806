"""`internvl chat`: a conversation at a terminal."""

import asyncio

from internvl.cli.ask import Images, System, Videos, media_of
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
    generation: Generation,
    connection: Connection,
) -> None:
    """Chat about images and videos; /help lists the commands."""
    visual, sampling = generation.visual, generation.sampling
    media = {
        path.name: part for path, part in zip([*(image or ()), *(video or ())], media_of(image, video), strict=True)
    }
    with reported_errors(), asyncio.Runner() as runner:
        client = runner.run(greet(connection))

        def new_session(system: str | None) -> ChatSession:
            return ChatSession(client, system=system, visual=visual, sampling=sampling, on_upload=show_upload)

        try:
            Conversation(runner, new_session, system=system, media=media).run()
        finally:
            runner.run(client.close())
