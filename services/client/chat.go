package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"secureconnect/services/internal/wire"
)

// Names of what conversations are made of, for programs outside the services.
type (
	Conversation        = wire.Conversation
	ConversationID      = wire.ConversationID
	ConversationRequest = wire.ConversationRequest
	ConversationChange  = wire.ConversationChange
	Conversations       = wire.Conversations
	Member              = wire.Member
	ClientID            = wire.ClientID
	Message             = wire.SendRequest
	Sent                = wire.Sent
	Page                = wire.Page
	Cursors             = wire.Cursors
	CursorChange        = wire.CursorChange
)

const pathConversations = "/v1/conversations"

func conversationPath(id ConversationID, rest string) string {
	return pathConversations + "/" + url.PathEscape(string(id)) + rest
}

func memberPath(id ConversationID, user UserID) string {
	return conversationPath(id, "/members/"+url.PathEscape(string(user)))
}

// CreateConversation makes a conversation; one that is there already is answered with status 200.
func (c *Client) CreateConversation(ctx context.Context, accessToken string, r ConversationRequest) (Conversation, Answer, error) {
	var made Conversation
	answer, err := c.call(ctx, http.MethodPost, pathConversations, accessToken, r, &made)
	return made, answer, err
}

// Conversations lists those the caller is in, from the given id on; "" is the first page.
func (c *Client) Conversations(ctx context.Context, accessToken string, from ConversationID) (Conversations, Answer, error) {
	var page Conversations
	path := pathConversations
	if from != "" {
		path += "?" + url.Values{"from": {string(from)}}.Encode()
	}
	answer, err := c.call(ctx, http.MethodGet, path, accessToken, nil, &page)
	return page, answer, err
}

// Conversation returns one the caller is in.
func (c *Client) Conversation(ctx context.Context, accessToken string, id ConversationID) (Conversation, Answer, error) {
	var found Conversation
	answer, err := c.call(ctx, http.MethodGet, conversationPath(id, ""), accessToken, nil, &found)
	return found, answer, err
}

// ChangeConversation renames it, or sets how long its messages live.
func (c *Client) ChangeConversation(ctx context.Context, accessToken string, id ConversationID, change ConversationChange) (Conversation, Answer, error) {
	var changed Conversation
	answer, err := c.call(ctx, http.MethodPatch, conversationPath(id, ""), accessToken, change, &changed)
	return changed, answer, err
}

// Members lists who is in a conversation.
func (c *Client) Members(ctx context.Context, accessToken string, id ConversationID) ([]Member, Answer, error) {
	var page wire.Members
	answer, err := c.call(ctx, http.MethodGet, conversationPath(id, "/members"), accessToken, nil, &page)
	return page.Members, answer, err
}

// AddMembers takes contacts of the caller into a group.
func (c *Client) AddMembers(ctx context.Context, accessToken string, id ConversationID, users ...UserID) ([]Member, Answer, error) {
	var page wire.Members
	answer, err := c.call(ctx, http.MethodPost, conversationPath(id, "/members"), accessToken, wire.MembersRequest{UserIDs: users}, &page)
	return page.Members, answer, err
}

// SetRole makes a member owner, admin or member.
func (c *Client) SetRole(ctx context.Context, accessToken string, id ConversationID, user UserID, role string) (Answer, error) {
	return c.call(ctx, http.MethodPatch, memberPath(id, user), accessToken, wire.RoleChange{Role: role}, nil)
}

// RemoveMember takes a member out of a group, or lets the caller leave.
func (c *Client) RemoveMember(ctx context.Context, accessToken string, id ConversationID, user UserID) (Answer, error) {
	return c.call(ctx, http.MethodDelete, memberPath(id, user), accessToken, nil, nil)
}

// Send stores a message. When it fails, send the same again: under its client id it is one message.
func (c *Client) Send(ctx context.Context, accessToken string, id ConversationID, m Message) (Sent, Answer, error) {
	var sent Sent
	answer, err := c.call(ctx, http.MethodPost, conversationPath(id, "/messages"), accessToken, m, &sent)
	return sent, answer, err
}

// Messages reads what is above the number after, up to a number (0: the last), at most limit of them (0: the usual page).
func (c *Client) Messages(ctx context.Context, accessToken string, id ConversationID, after, upTo int64, limit int) (Page, Answer, error) {
	var page Page
	query := url.Values{"after": {strconv.FormatInt(after, 10)}}
	if upTo > 0 {
		query.Set("up_to", strconv.FormatInt(upTo, 10))
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	answer, err := c.call(ctx, http.MethodGet, conversationPath(id, "/messages?"+query.Encode()), accessToken, nil, &page)
	return page, answer, err
}

// MoveCursor tells how far this device has been given, and the caller has read, a conversation.
func (c *Client) MoveCursor(ctx context.Context, accessToken string, id ConversationID, change CursorChange) (Cursors, Answer, error) {
	var cursors Cursors
	answer, err := c.call(ctx, http.MethodPut, conversationPath(id, "/cursor"), accessToken, change, &cursors)
	return cursors, answer, err
}
