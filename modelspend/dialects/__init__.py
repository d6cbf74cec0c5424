"""The wire protocols: one file each, both directions, no I/O.

`DIALECTS` is the list; a protocol that is not in it does not exist. `CHAT_DIALECTS` are those that
can be translated into each other.
"""

from modelspend.dialects.anthropic import AnthropicCountTokens, AnthropicMessages
from modelspend.dialects.dialect import ChatDialect, Dialect
from modelspend.dialects.gemini import Gemini
from modelspend.dialects.openai_chat import OpenAIChat
from modelspend.dialects.openai_embeddings import OpenAIEmbeddings
from modelspend.dialects.openai_responses import OpenAIResponses

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        OpenAIChat(),
        OpenAIResponses(),
        OpenAIEmbeddings(),
        AnthropicMessages(),
        AnthropicCountTokens(),
        Gemini(),
    )
}

CHAT_DIALECTS: dict[str, ChatDialect] = {
    dialect.name: dialect
    for dialect in (OpenAIChat(), OpenAIResponses(), AnthropicMessages(), Gemini())
}
