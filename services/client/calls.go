package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"secureconnect/services/internal/wire"
)

// Names of what calls are made of, for programs outside the services; package calls takes part in them.
type (
	Call        = wire.Call
	CallID      = wire.CallID
	CallRequest = wire.CallRequest
	CallMember  = wire.CallMember
	CallRecord  = wire.CallRecord
	CallHistory = wire.CallHistory
	CallKey     = wire.CallKey
	ICE         = wire.ICE
)

const pathCalls = "/v1/calls"

func callPath(id CallID, rest string) string {
	return pathCalls + "/" + url.PathEscape(string(id)) + rest
}

// CallSocket is the path of the socket to a call.
func CallSocket(id CallID) string { return callPath(id, "/ws") }

// BeginCall calls the members of a conversation; where a call is going on there, that one is answered with status 200.
func (c *Client) BeginCall(ctx context.Context, accessToken string, r CallRequest) (Call, Answer, error) {
	var call Call
	answer, err := c.call(ctx, http.MethodPost, pathCalls, accessToken, r, &call)
	return call, answer, err
}

// BeginTestCall calls the caller: what is sent comes back.
func (c *Client) BeginTestCall(ctx context.Context, accessToken string) (Call, Answer, error) {
	var call Call
	answer, err := c.call(ctx, http.MethodPost, pathCalls+"/test", accessToken, nil, &call)
	return call, answer, err
}

// OngoingCalls lists the calls that go on in the caller's conversations.
func (c *Client) OngoingCalls(ctx context.Context, accessToken string) ([]Call, Answer, error) {
	var list wire.CallList
	answer, err := c.call(ctx, http.MethodGet, pathCalls, accessToken, nil, &list)
	return list.Calls, answer, err
}

// FindCall returns a call of the caller's conversations, also for a day after its end.
func (c *Client) FindCall(ctx context.Context, accessToken string, id CallID) (Call, Answer, error) {
	var call Call
	answer, err := c.call(ctx, http.MethodGet, callPath(id, ""), accessToken, nil, &call)
	return call, answer, err
}

// DeclineCall ends the ringing on all devices of the caller.
func (c *Client) DeclineCall(ctx context.Context, accessToken string, id CallID) (Answer, error) {
	return c.call(ctx, http.MethodPost, callPath(id, "/decline"), accessToken, nil, nil)
}

// LeaveCall hangs up; who began a call and is alone in it cancels it.
func (c *Client) LeaveCall(ctx context.Context, accessToken string, id CallID) (Answer, error) {
	return c.call(ctx, http.MethodPost, callPath(id, "/leave"), accessToken, nil, nil)
}

// CallHistory returns a page of the caller's call log, the newest first: "" is the first page, then each page's Next. With 0 it is as long
// as usual.
func (c *Client) CallHistory(ctx context.Context, accessToken, before string, limit int) (CallHistory, Answer, error) {
	query := url.Values{}
	if before != "" {
		query.Set("before", before)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	path := pathCalls + "/history"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var page CallHistory
	answer, err := c.call(ctx, http.MethodGet, path, accessToken, nil, &page)
	return page, answer, err
}

// SeeCalls says that missed calls up to a time have been seen.
func (c *Client) SeeCalls(ctx context.Context, accessToken string, upTo time.Time) (Answer, error) {
	return c.call(ctx, http.MethodPut, pathCalls+"/history/seen", accessToken, wire.CallsSeen{At: upTo}, nil)
}
