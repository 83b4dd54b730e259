"""Models: what all providers serve, by both namespaces of the SDK."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import anthropic
import pytest

from support import wire
from world import World

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
# A provider of another kind that nobody can reach: its list is empty, and it claims nothing.
DEAF = """
[providers.deaf]
kind = "openai_chat"
base_url = "http://127.0.0.1:9/v1"

[models."house-1"]
window = 32768
max_output = 4096
thinking = "none"
images = false
documents = false
about = { name = "House One", released = "2026-03-04", lifecycle = "retired" }
"""


def test_what_the_provider_lists_is_listed(client: anthropic.Anthropic) -> None:
    plain = list(client.models.list())
    assert plain, "the scripted model lists its models"
    assert all(one.type == "model" and one.lifecycle == "active" for one in plain)
    assert [one.created_at for one in plain] == sorted(
        (one.created_at for one in plain), reverse=True
    )
    beta = list(client.beta.models.list())
    assert [one.id for one in beta] == [one.id for one in plain]
    assert all(one.allowed_fallback_models is None for one in beta)
    for one in plain:
        assert client.models.retrieve(one.id) == one
        own = wire(one)["posthouse"]
        assert (own["provider"], own["wire"]) == ("anthropic", "anthropic")
        assert one.created_at > EPOCH
        # An agent takes what the list shows.
        agent = client.beta.agents.create(name="a", model=one.id)
        assert agent.model.id == one.id


def test_pages_lead_through_the_whole_list(client: anthropic.Anthropic) -> None:
    ids = [one.id for one in client.models.list()]
    page = client.models.list(limit=1)
    assert (page.first_id, page.last_id, page.has_more) == (ids[0], ids[0], len(ids) > 1)
    assert [one.id for one in page] == ids
    assert [one.id for one in client.beta.models.list(limit=2)] == ids
    back = client.models.list(limit=1, before_id=ids[-1])
    assert [one.id for one in back.data] == ids[-2:-1]
    assert [one.id for one in back] == ids[-2::-1]
    assert client.models.list(after_id=ids[-1]).data == []


@pytest.mark.anyio
async def test_the_asynchronous_client_reads_it_as_well(
    async_client: anthropic.AsyncAnthropic,
) -> None:
    ids = [one.id async for one in async_client.models.list(limit=1)]
    assert ids == [one.id async for one in async_client.beta.models.list()]
    assert (await async_client.models.retrieve(ids[0])).id == ids[0]


def test_a_name_leads_to_its_model_with_its_provider_in_front(client: anthropic.Anthropic) -> None:
    one = client.models.list().data[0]
    assert client.models.retrieve(f"anthropic/{one.id}") == one
    assert client.beta.models.retrieve(f"anthropic/{one.id}").id == one.id
    with pytest.raises(anthropic.NotFoundError) as error:
        client.models.retrieve("gpt-9")
    assert "model: gpt-9" in str(error.value)


def test_stages_are_chosen(client: anthropic.Anthropic) -> None:
    all_of_them = [one.id for one in client.models.list()]
    assert [one.id for one in client.models.list(lifecycle=["active"])] == all_of_them
    assert list(client.models.list(lifecycle=["retired"])) == []
    with pytest.raises(anthropic.BadRequestError) as error:
        client.models.list(limit=1001)
    assert "limit" in str(error.value)


def test_what_only_the_table_knows_is_found_by_its_name(
    make_world: Callable[[str], World],
) -> None:
    client = make_world(DEAF).client()
    house = client.models.retrieve("deaf/house-1")
    assert house.id == "deaf/house-1"
    assert house.display_name == "House One"
    assert house.created_at == datetime.datetime(2026, 3, 4, tzinfo=datetime.timezone.utc)
    assert (house.lifecycle, house.line) == ("retired", None)
    assert (house.max_input_tokens, house.max_tokens) == (32_768, 4_096)
    assert house.capabilities is not None
    assert not house.capabilities.image_input.supported
    assert not house.capabilities.thinking.supported
    assert not house.capabilities.effort.supported
    # Its provider says nothing, so that any name may be one of its.
    agent = client.beta.agents.create(name="a", model="deaf/anything")
    assert agent.model.id == "deaf/anything"
    with pytest.raises(anthropic.BadRequestError) as error:
        client.beta.agents.create(name="a", model="gpt-9")
    assert "set OPENAI_API_KEY" in str(error.value)
