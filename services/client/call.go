package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"secureconnect/services/internal/wire"
)

// Answer says how a call was answered, whether it succeeded or not.
type Answer struct {
	Status    int
	ServedBy  string // the app host that answered
	RequestID string // what the logs call this request
}

// Problem is an error the platform answered with (RFC 9457). Test Code, never the text.
type Problem struct {
	Code       string
	Status     int
	Title      string
	Detail     string
	RetryAfter time.Duration // zero: not said
	Answer     Answer
}

func (p *Problem) Error() string {
	text := valueOr(p.Detail, valueOr(p.Title, http.StatusText(p.Status)))
	return fmt.Sprintf("%d %s: %s", p.Status, valueOr(p.Code, "no_code"), text)
}

// maxAnswer bounds what is read of one answer; the largest honest one is the keys of all devices of a large group.
const maxAnswer = 16 << 20

// call sends body as JSON, when there is one, and reads the answer into result, when there is one.
func (c *Client) call(ctx context.Context, method, path string, accessToken string, body, result any) (Answer, error) {
	for left := c.patience; ; {
		answer, err := c.callOnce(ctx, method, path, accessToken, body, result)
		later := new(Problem)
		if !errors.As(err, &later) || later.Status != http.StatusTooManyRequests || later.RetryAfter <= 0 || later.RetryAfter > left {
			return answer, err
		}
		left -= later.RetryAfter
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(later.RetryAfter):
		}
	}
}

// Call asks for a path that has no method of its own here, with body as JSON, when there is one, and the answer read into result, when
// there is one.
func (c *Client) Call(ctx context.Context, method, path, accessToken string, body, result any) (Answer, error) {
	return c.call(ctx, method, path, accessToken, body, result)
}

func (c *Client) callOnce(ctx context.Context, method, path string, accessToken string, body, result any) (Answer, error) {
	request, err := c.request(ctx, method, path, accessToken, body)
	if err != nil {
		return Answer{}, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end or given up: nothing to learn from closing
	answer := answerOf(response)
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return answer, fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	if len(content) > maxAnswer {
		return answer, fmt.Errorf("%s %s: answer above %d bytes", method, path, maxAnswer)
	}
	if response.StatusCode >= 300 {
		return answer, problemOf(response, answer, content)
	}
	if result == nil {
		return answer, nil
	}
	if err := json.Unmarshal(content, result); err != nil {
		return answer, fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	return answer, nil
}

func (c *Client) request(ctx context.Context, method, path string, accessToken string, body any) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, content)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header = c.header(accessToken)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

func (c *Client) header(accessToken string) http.Header {
	header := http.Header{"User-Agent": {c.userAgent}, "Accept": {"application/json, " + wire.ProblemMediaType}}
	if accessToken != "" {
		header.Set("Authorization", "Bearer "+accessToken)
	}
	if c.preferHost != "" {
		header.Set("Cookie", hostCookie+"="+c.preferHost)
	}
	return header
}

func answerOf(response *http.Response) Answer {
	return Answer{response.StatusCode, response.Header.Get(wire.HeaderServedBy), response.Header.Get(wire.HeaderRequestID)}
}

// problemOf reads a refusal; one that is no problem document keeps its status and has no code.
func problemOf(response *http.Response, answer Answer, content []byte) error {
	problem := &Problem{Status: response.StatusCode, Title: http.StatusText(response.StatusCode), Answer: answer}
	var document wire.Problem
	if json.Unmarshal(content, &document) == nil {
		problem.Code, problem.Detail = document.Code, document.Detail
		problem.Title = valueOr(document.Title, problem.Title)
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		problem.RetryAfter = time.Duration(seconds) * time.Second
	}
	return problem
}

// CodeOf returns the platform's code for err, or "" when err is not the platform's answer.
func CodeOf(err error) string {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem.Code
	}
	return ""
}
