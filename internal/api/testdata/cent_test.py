"""Uses every method of the package cent against a server: cent_test.py URL KEY."""
import sys

from cent import (
    BatchRequest, BroadcastRequest, CentApiResponseError, CentUnauthorizedError, ChannelsRequest, Client,
    Disconnect, DisconnectRequest, HistoryRequest, InfoRequest, PresenceRequest, PublishRequest, RefreshRequest,
    StreamPosition, SubscribeRequest, UnsubscribeRequest,
)

url, key = sys.argv[1:]
client = Client(url, key)
result = client.publish(PublishRequest(channel="a", data={"input": "x"}, tags={"k": "v"}, idempotency_key="i"))
assert (result.offset, result.epoch) == (1, "e"), result
result = client.broadcast(BroadcastRequest(channels=["a", "b"], data=1))
assert len(result.responses) == 2 and result.responses[1].result.epoch == "e", result
client.subscribe(SubscribeRequest(
    user="u", channel="a", data={"x": 1}, recover_since=StreamPosition(offset=7, epoch="e")))
client.unsubscribe(UnsubscribeRequest(user="u", channel="a"))
client.disconnect(DisconnectRequest(user="u", whitelist=["c"], disconnect=Disconnect(code=4000, reason="r")))
client.refresh(RefreshRequest(user="u", expire_at=4000000000))
result = client.history(HistoryRequest(channel="a", limit=-1, reverse=True))
assert result.publications[0].data == {"a": 1} and result.offset == 9, result
result = client.channels(ChannelsRequest(pattern="news.**"))
assert result.channels["news.b.c"].num_clients == 2, result
result = client.info(InfoRequest())
assert result.nodes[0].uid == "uid" and result.nodes[0].process.rss == 6, result
for parallel in False, True:
    result = client.batch(BatchRequest(requests=[
        PublishRequest(channel="a", data=2), InfoRequest(), HistoryRequest(channel="a")], parallel=parallel))
    assert result.replies[2].offset == 9 and result.replies[1].nodes[0].name == "name", result
try:
    client.presence(PresenceRequest(channel="a"))
    sys.exit("presence is served")
except CentApiResponseError as e:
    assert e.code == 108, e
try:
    Client(url, "wrong").info(InfoRequest())
    sys.exit("a wrong key is accepted")
except CentUnauthorizedError:
    pass
print("ok")
