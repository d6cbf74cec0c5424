"""Who a call is, in the words of the scopes that budgets and rules are written for."""

from modelspend import budgets
from modelspend.budgets import Scope
from modelspend.gateway.caller import Caller
from modelspend.gateway.target import Target

Who = dict[Scope, tuple[str, ...]]


def who(caller: Caller, session_id: str | None, target: Target | None = None) -> Who:
    """The names under which a call counts, by scope; without a target, those known before."""
    names: Who = {"process": (budgets.PROCESS,), "tenant": (caller.tenant,)}
    if caller.workflow:
        names["workflow"] = (caller.workflow,)
    if session_id:
        names["session"] = (session_id,)
    if caller.key_id:
        names["key"] = (caller.key_id,)
    if target is not None:
        names["model"] = (f"{target.provider.name}/{target.model}", target.model)
    return names
