package client

import (
	"context"
	"net/http"
	"net/url"

	"secureconnect/services/internal/wire"
)

// Names of what wire says about people.
type (
	UserID       = wire.UserID
	Profile      = wire.Profile
	Contact      = wire.Contact
	ContactsPage = wire.Contacts
)

// SearchUsers finds people by the start of their username, at least two characters of it.
func (c *Client) SearchUsers(ctx context.Context, accessToken, start string) ([]Profile, Answer, error) {
	var found wire.Profiles
	answer, err := c.call(ctx, http.MethodGet, "/v1/users?search="+url.QueryEscape(start), accessToken, nil, &found)
	return found.Users, answer, err
}

// User returns somebody by id.
func (c *Client) User(ctx context.Context, accessToken string, id UserID) (Profile, Answer, error) {
	var found Profile
	answer, err := c.call(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(string(id)), accessToken, nil, &found)
	return found, answer, err
}

// Contacts returns a page of the caller's relations, from behind after: "" first, then each page's Next until that is "".
func (c *Client) Contacts(ctx context.Context, accessToken string, after UserID) (ContactsPage, Answer, error) {
	path := "/v1/contacts"
	if after != "" {
		path += "?after=" + url.QueryEscape(string(after))
	}
	var page ContactsPage
	answer, err := c.call(ctx, http.MethodGet, path, accessToken, nil, &page)
	return page, answer, err
}

// RequestContact asks somebody to be a contact, or agrees to who has asked.
func (c *Client) RequestContact(ctx context.Context, accessToken string, id UserID) (Contact, Answer, error) {
	var contact Contact
	answer, err := c.call(ctx, http.MethodPost, "/v1/contacts", accessToken, wire.ContactRequest{UserID: id}, &contact)
	return contact, answer, err
}

// AcceptContact makes a contact of who has asked.
func (c *Client) AcceptContact(ctx context.Context, accessToken string, id UserID) (Contact, Answer, error) {
	var contact Contact
	answer, err := c.call(ctx, http.MethodPost, contactPath(id)+"/accept", accessToken, nil, &contact)
	return contact, answer, err
}

// RejectContact takes a request from sight, without a word to who has asked.
func (c *Client) RejectContact(ctx context.Context, accessToken string, id UserID) (Answer, error) {
	return c.call(ctx, http.MethodPost, contactPath(id)+"/reject", accessToken, nil, nil)
}

// RemoveContact ends a contact, or cancels the caller's own request.
func (c *Client) RemoveContact(ctx context.Context, accessToken string, id UserID) (Answer, error) {
	return c.call(ctx, http.MethodDelete, contactPath(id), accessToken, nil, nil)
}

// BlockUser keeps somebody away and ends whatever was between the two.
func (c *Client) BlockUser(ctx context.Context, accessToken string, id UserID) (Answer, error) {
	return c.call(ctx, http.MethodPut, contactPath(id)+"/block", accessToken, nil, nil)
}

// UnblockUser ends the caller's block; it restores nothing.
func (c *Client) UnblockUser(ctx context.Context, accessToken string, id UserID) (Answer, error) {
	return c.call(ctx, http.MethodDelete, contactPath(id)+"/block", accessToken, nil, nil)
}

func contactPath(id UserID) string { return "/v1/contacts/" + url.PathEscape(string(id)) }
