"""Spellings that the official clients really send and refuse."""

import orjson

from modelspend import chat
from modelspend.dialects import DIALECTS


def test_gemini_reads_a_function_schema_in_the_spelling_that_googles_client_sends() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    declared = {"name": "weather", "parameters_json_schema": schema}
    body = {"contents": [], "tools": [{"functionDeclarations": [declared]}]}
    asked = DIALECTS["gemini.generate"].decode_request(
        "/v1beta/models/m:generateContent", orjson.dumps(body)
    )
    (tool,) = asked.tools
    assert isinstance(tool, chat.Tool)
    assert tool.schema == schema


def test_an_anthropic_text_block_has_no_null_citations_which_clients_refuse() -> None:
    answer = chat.Answer(answer_id="msg_1", model="m", parts=(chat.Text(text="hi"),), stop="stop")
    told = orjson.loads(DIALECTS["anthropic.messages"].encode_answer(answer))
    assert told["content"] == [{"type": "text", "text": "hi"}]
