package proxy

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"wsd/internal/proto"
)

func TestDecode(t *testing.T) {
	now := time.Now()
	decode := func(text string) *Answer {
		a, err := Decode(KindConnect, []byte(text), 16, now)
		require.NoError(t, err, text)
		return a
	}
	a := decode(`{"result": {"user": "42", "expire_at": 4102444800, "info": {"name":
		"Ada"}, "meta": {"a": 1}, "b64data": "AP8=", "channels": ["x", "y"], "subs": {"y": {"data": [1, 2]}, "z": {}}, "caps": [], "new": 1}}`)
	require.True(t, a.Given)
	require.Equal(t, "42", a.User)
	require.Equal(t, `{"name":"Ada"}`, string(a.Info), "a line break would end the message")
	require.Equal(t, `{"a":1}`, string(a.Meta))
	require.Equal(t, []byte{0, 255}, a.Data)
	require.Equal(t, []string{"x", "y", "z"}, a.Channels)
	require.Equal(t, map[string][]byte{"y": []byte(`[1,2]`)}, a.SubData)
	require.WithinDuration(t, time.Unix(4102444800, 0), a.ExpireAt, time.Second)
	require.False(t, decode(`{}`).Given)
	require.False(t, decode(`{"result":null}`).Given)
	a = decode(`{"result":{"b64data":"eyJhIjoKIDF9","subs":{"x":{"b64data":"MQo="}}}}`)
	require.NoError(t, a.makeJSON(16))
	require.Equal(t, `{"a":1}`, string(a.Data))
	require.Equal(t, `1`, string(a.SubData["x"]))
	require.True(t, decode(`{"result":{}}`).Given)
	require.Equal(t, "null", string(decode(`{"result":{"data":null}}`).Data))
	require.Nil(t, decode(`{"result":{"info":null,"meta":null}}`).Info)
	require.Equal(t, &Error{Code: 1000, Message: "no", Temporary: true}, decode(`{"result":{},"error":{"code":1000,"message":"no","temporary":true}}`).Error)
	d := decode(`{"disconnect":{"code":4500,"reason":"` + strings.Repeat("ä", 100) + `"},"error":{"code":1}}`)
	require.Nil(t, d.Error)
	require.EqualValues(t, 4500, d.Disconnect.Code)
	require.Equal(t, strings.Repeat("ä", 61), d.Disconnect.Reason)
}

// A result has what is of its kind: other fields are the backend's own business, whatever they contain.
func TestDecodeByKind(t *testing.T) {
	text := []byte(`{"result":{"expired":true,"expire_at":4102444800,"user":"u","data":1,"info":2,"meta":3,"channels":["x"]}}`)
	for kind, want := range map[Kind]Answer{
		KindConnect: {User: "u", Data: []byte("1"), Info: []byte("2"), Meta: []byte("3"), Channels: []string{"x"}},
		KindRefresh: {Expired: true, Info: []byte("2"), Meta: []byte("3")}, KindSubscribe: {Data: []byte("1")},
		KindSubRefresh: {Expired: true}, KindRPC: {Data: []byte("1")}, KindSend: {},
	} {
		a, err := Decode(kind, text, 16, time.Now())
		require.NoError(t, err)
		require.Equal(t, kind == KindRPC || kind == KindSend, a.ExpireAt.IsZero(), kind)
		want.Given, want.Bytes, a.ExpireAt = true, len(text), time.Time{}
		require.Equal(t, want, *a, kind)
	}
	a, err := Decode(KindRPC, []byte(`{"result":{"data":[1],"user":42,"channels":"none","expire_at":"tomorrow","subs":[]}}`), 16, time.Now())
	require.NoError(t, err)
	require.Equal(t, "[1]", string(a.Data))
}

func TestDecodeFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{"result":{"user":{"a":"secret"}}}`:                               "result.user has the wrong type, object",
		`{"result":{"expire_at":"secret"}}`:                                "result.expire_at has the wrong type, string",
		`{"result":{"expire_at":1700000000000}}`:                           "expire_at is not a time in seconds",
		`{"result":{"expire_at":-1}}`:                                      "expire_at is not a time in seconds",
		`{"result":{"user":"` + strings.Repeat("u", 256) + `"}}`:           "user has 256 bytes",
		`{"result":{"channels":["` + strings.Repeat("u", 256) + `"]}}`:     "a channel's name has 256 bytes",
		`{"result":{"channels":[""]}}`:                                     "a channel's name has 0 bytes",
		`{"result":{"channels":["` + strings.Repeat(`a","`, 5000) + `"]}}`: "more than 4096 channels",
		`{"result":{"data":1`:                                              "not JSON, from byte",
		`{"error":{"code":-1}}`:                                            "error.code has the wrong type, number",
		`{"disconnect":{"code":2999}}`:                                     "disconnect.code is 2999",
		`{"result":["secret"]}`:                                            "result has the wrong type, array",
		`"secret"`:                                                         "the answer has the wrong type, string",
	} {
		_, err := Decode(KindConnect, []byte(text), 16, time.Now())
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

// Whatever a backend answers, Decode gives an error or what clients may get.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"result":{"user":"42","expire_at":4102444800,"info":{"a":1},"meta":[],"data":{"b":"ü"},"channels":["x"],"subs":{"y":{"b64data":"AA=="}}}}`,
		`{"error":{"code":1000,"message":"m","temporary":true}}`, `{"disconnect":{"code":4000,"reason":"r"}}`, `{"result":{"expired":true}}`,
		`{"result":{"data":"\ud800"}}`, `{"RESULT":{"Data":1}}`, `[[[[`, "{\"result\":{\"data\":\n[ 1 ,\n2]}}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := Decode(Kinds()[len(text)%len(Kinds())], text, 16, time.Now())
		if err != nil {
			require.LessOrEqual(t, len(err.Error()), 300)
			return
		}
		require.False(t, a.Error != nil && a.Disconnect != nil)
		if d := a.Disconnect; d != nil {
			require.True(t, d.Code >= 3000 && d.Code < 5000 && len(d.Reason) <= 123 && utf8.ValidString(d.Reason))
		}
		for _, raw := range [][]byte{a.Meta} {
			if raw != nil {
				require.True(t, proto.ValidJSON(raw))
				require.NotContains(t, string(raw), "\n")
			}
		}
		require.LessOrEqual(t, len(a.Channels), channelsMax)
		require.LessOrEqual(t, len(a.User), userBytesMax)
	})
}
