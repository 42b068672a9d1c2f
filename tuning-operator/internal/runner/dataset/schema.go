// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Kind is the kind of a schema.
type Kind string

// The kinds that the trainer's library (TRL's SFTTrainer) supports.
const (
	Messages         Kind = "messages"
	PromptCompletion Kind = "prompt-completion"
	Text             Kind = "text"
)

// Schema says which columns hold the training text.
type Schema struct {
	Kind    Kind    `json:"kind"`
	Columns Columns `json:"columns"`
	// Input is a column whose text is added to the prompt where a row has any, as in Alpaca's data.
	Input string `json:"input,omitempty"`
}

// The columns of Alpaca's data, and that of ShareGPT's.
const (
	columnInstruction   = "instruction"
	columnInput         = "input"
	columnConversations = "conversations"
)

// detect returns the schema of the columns that the user names, or the first of TRL's schemas that fits the row.
func detect(row map[string]any, c Columns) (Schema, error) {
	has := func(name string) bool { _, ok := row[name]; return ok }
	or := func(name, fallback string) string {
		if name == "" {
			return fallback
		}
		return name
	}
	have := "it has the columns " + strings.Join(slices.Sorted(maps.Keys(row)), ", ")
	if c.explicit() {
		s := Schema{Columns: c}
		switch {
		case c.Messages != "":
			s.Kind = Messages
		case c.Prompt != "" || c.Completion != "":
			s.Kind = PromptCompletion
			s.Columns.Prompt, s.Columns.Completion = or(c.Prompt, "prompt"), or(c.Completion, "completion")
		default:
			s.Kind = Text
		}
		for _, name := range s.names() {
			if !has(name) {
				return Schema{}, fmt.Errorf("column %q, which DatasetConfig names, is missing; %s", name, have)
			}
		}
		return s, nil
	}
	switch {
	case has("messages"):
		return Schema{Kind: Messages, Columns: Columns{Messages: "messages"}}, nil
	case has("prompt") && has("completion"):
		return Schema{Kind: PromptCompletion, Columns: Columns{Prompt: "prompt", Completion: "completion"}}, nil
	case has("text"):
		return Schema{Kind: Text, Columns: Columns{Text: "text"}}, nil
	case has(columnConversations):
		return Schema{Kind: Messages, Columns: Columns{Messages: columnConversations}}, nil
	}
	for _, answer := range []string{"output", "response"} {
		if has(columnInstruction) && has(answer) {
			return Schema{
				Kind: PromptCompletion, Columns: Columns{Prompt: columnInstruction, Completion: answer}, Input: columnInput,
			}, nil
		}
	}
	return Schema{}, errors.New(have + "; messages, prompt and completion, instruction and output, conversations, or text is required: " +
		"rename the columns, or set messages_column, or context_column and response_column, in DatasetConfig")
}

func (s Schema) names() []string {
	switch s.Kind {
	case Messages:
		return []string{s.Columns.Messages}
	case PromptCompletion:
		return []string{s.Columns.Prompt, s.Columns.Completion}
	case Text:
		return []string{s.Columns.Text}
	}
	return nil
}

// piece is a part of a row's text. The chat template adds tokens to each turn.
type piece struct {
	text string
	turn bool
}

// check returns the text of a row. The error says why the row cannot be used for training.
func (s Schema) check(row map[string]any) ([]piece, error) {
	var out []piece
	for _, name := range s.names() {
		v, ok := row[name]
		if !ok || v == nil {
			return nil, fmt.Errorf("column %q is missing or null", name)
		}
		pieces, err := s.value(name, v)
		if err != nil {
			return nil, err
		}
		out = append(out, pieces...)
	}
	input, err := s.input(row)
	return append(out, input...), err
}

// input returns the text that is added to the prompt. Where the user names the columns, text beside an instruction
// would be lost.
func (s Schema) input(row map[string]any) ([]piece, error) {
	v := row[columnInput]
	text, ok := asText(v)
	switch {
	case v == nil || s.Columns.Prompt != columnInstruction || strings.TrimSpace(text) == "" && ok:
		return nil, nil
	case !ok:
		return nil, fmt.Errorf("column %q is %s: use text", columnInput, describe(v))
	case s.Input == "":
		return nil, fmt.Errorf(
			"column %q has text, which would not be used: remove context_column and response_column from DatasetConfig, and it is added to the instruction",
			columnInput,
		)
	}
	return []piece{{text: text}}, nil
}

func (s Schema) value(name string, v any) ([]piece, error) {
	if list, ok := v.([]any); ok && s.Kind != Text {
		return conversation(name, list, s.Kind == Messages)
	}
	text, ok := asText(v)
	if !ok || s.Kind == Messages {
		want := "text"
		if s.Kind == Messages {
			want = "a list of {role, content}"
		}
		return nil, fmt.Errorf("column %q is %s: use %s", name, describe(v), want)
	}
	// An empty completion would train the model to answer nothing. An empty prompt is valid: the text is continued.
	if strings.TrimSpace(text) == "" && name != s.Columns.Prompt {
		return nil, fmt.Errorf("column %q is empty", name)
	}
	return []piece{{text: text}}, nil
}

// roles are the roles that chat templates support.
var roles = []string{"system", "developer", "user", "assistant", "tool"}

// speakers are the names that ShareGPT's data has for the roles.
var speakers = map[string]string{
	"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system", "tool": "tool",
}

// turnOf returns a turn with role and content; ShareGPT's have from and value.
func turnOf(turn map[string]any) map[string]any {
	_, has := turn["role"]
	from, ok := asText(turn["from"])
	if has || !ok {
		return turn
	}
	role, known := speakers[from]
	if !known {
		role = from
	}
	return map[string]any{"role": role, "content": turn["value"]}
}

func conversation(name string, list []any, whole bool) ([]piece, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("column %q is an empty list", name)
	}
	var out []piece
	answered := false
	for i, v := range list {
		turn, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s[%d] is %s: use an object with role and content", name, i, describe(v))
		}
		turn = turnOf(turn)
		role, ok := asText(turn["role"])
		if !ok || !slices.Contains(roles, role) {
			return nil, fmt.Errorf(
				"%s[%d].role is %s: use one of %s", name, i, describe(turn["role"]), strings.Join(roles, ", "),
			)
		}
		content, ok := asText(turn["content"])
		// A tool call needs no content.
		if _, calls := turn["tool_calls"]; !ok && (!calls || turn["content"] != nil) {
			return nil, fmt.Errorf("%s[%d].content is %s: use text", name, i, describe(turn["content"]))
		}
		answered = answered || role == "assistant"
		out = append(out, piece{text: content, turn: true})
	}
	if whole && !answered {
		return nil, fmt.Errorf("column %q has no turn of the assistant, which the model is trained on", name)
	}
	return out, nil
}

func asText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), utf8.Valid(v)
	}
	return "", false
}

func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "missing or null"
	case string:
		if len(v) > 40 {
			return "a text"
		}
		return fmt.Sprintf("%q", v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	case bool:
		return "a boolean"
	}
	return "a number"
}
