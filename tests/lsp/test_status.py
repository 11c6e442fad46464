"""What the editor is told about the backend."""

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend

Env = dict[str, str]


async def test_a_failing_backend_is_a_status_and_never_a_message(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = ")
        backend.status = 500
        for column in range(4):
            assert (await client.inline_completion(URI, (0, column))).text is None
        backend.status = 200
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"
        methods = {method for method, _ in client.notifications}
        assert methods == {"$/tabwise/status"}
        states = [params["state"] for _, params in client.notifications]
        assert states == ["ready", "offline", "ready"]
