package pgkeras

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// Output is an optional part of a response; the action is always included.
type Output = pgkerasv1.ActOutput

// The optional parts of a response.
const (
	LogProb          = pgkerasv1.ActOutput_ACT_OUTPUT_LOG_PROB
	Entropy          = pgkerasv1.ActOutput_ACT_OUTPUT_ENTROPY
	WithDistribution = pgkerasv1.ActOutput_ACT_OUTPUT_DISTRIBUTION
	GreedyAction     = pgkerasv1.ActOutput_ACT_OUTPUT_GREEDY_ACTION
)

// CallOption configures how actions are selected, or what a response contains.
type CallOption func(*choices)

type choices struct {
	mode    pgkerasv1.ActMode
	seed    *uint64
	outputs []Output
	mask    *Tensor
	state   []byte
	starts  []bool
	// The declared simulator; nil if there is none.
	simulator *Simulator
	// The names of the given options that not every call supports.
	given []string
}

// Greedy selects the distribution's mode: the most probable action, or the mean. Without it, actions are sampled.
func Greedy() CallOption {
	return func(c *choices) { c.mode = pgkerasv1.ActMode_ACT_MODE_GREEDY }
}

// Seed makes sampling reproducible: of one call, or of a whole session if given to Play.
func Seed(seed uint64) CallOption { return named("Seed", func(c *choices) { c.seed = &seed }) }

// Outputs selects what a response contains besides the action.
func Outputs(outputs ...Output) CallOption {
	return func(c *choices) { c.outputs = withAction(outputs) }
}

// Mask allows only the actions where it is true. It is bool, of shape [mask_size], or [batch, mask_size] for a batch.
func Mask(mask Tensor) CallOption { return named("Mask", func(c *choices) { c.mask = &mask }) }

// State passes the State of the previous response to a policy with memory. Omit it at the first step of an episode.
func State(state []byte) CallOption { return named("State", func(c *choices) { c.state = state }) }

// EpisodeStart tells a session whether each observation is the first of an episode. Without it, an observation starts
// an episode if the step before it was terminated or truncated, as with Gymnasium's next-step autoreset.
func EpisodeStart(starts ...bool) CallOption {
	return named("EpisodeStart", func(c *choices) { c.starts = starts })
}

// Records the name of an option that not every call supports.
func named(name string, option CallOption) CallOption {
	return func(c *choices) {
		option(c)
		c.given = append(c.given, name)
	}
}

func newChoices(outputs []Output) choices {
	return choices{mode: pgkerasv1.ActMode_ACT_MODE_SAMPLE, outputs: withAction(outputs)}
}

// Applies options. Returns an InvalidRequestError for those that the call refuses.
func (c *choices) take(call string, options []CallOption, refused ...string) error {
	for _, option := range options {
		option(c)
	}
	for _, name := range c.given {
		if slices.Contains(refused, name) {
			return &InvalidRequestError{Field: "options", Expected: "one that " + call + " takes", Got: name}
		}
	}
	return nil
}

func withAction(outputs []Output) []Output {
	return append([]Output{pgkerasv1.ActOutput_ACT_OUTPUT_ACTION}, outputs...)
}

// Actions is the response for one observation or a batch. Its tensors have a batch axis if the observations had one.
type Actions struct {
	// Action has the action space's type and shape. It has no elements if the space is a Dict or Tuple.
	Action Tensor
	// Parts holds the action's leaves if the action space is a Dict or Tuple. Keys are paths, with dots between the
	// parts: "move", or "hands.1" for the second part of a Tuple.
	Parts map[string]Tensor
	// LogProb is ln P(action | observation), one per observation. It is nil if not requested, like the fields below.
	LogProb []float32
	// Entropy is the entropy of the distribution, in nats.
	Entropy []float32
	// GreedyAction is the action that Greedy would have returned.
	GreedyAction *Tensor
	// GreedyParts holds the leaves of the greedy action, keyed like Parts.
	GreedyParts map[string]Tensor
	// Distribution is the action distribution. It is nil also if this client does not know its kind.
	Distribution *Distribution
	// State is the memory of a policy with memory, to be sent with the next observation. A session keeps it itself.
	State []byte
	// Policy and Version identify the policy version that responded.
	Policy  string
	Version int64
	// Hold comes from a policy in training. Where it is true, the environment should not take its action but send the
	// same first observation again in the next step, with EpisodeStart. It is nil if no environment should wait.
	Hold []bool
}

// Distribution is an action distribution.
type Distribution struct {
	// Kind is the message's name in protos/pgkeras/v1/policy.proto in lower case, such as "categorical" or
	// "diagonal_gaussian".
	Kind string
	// Parameters holds the message's fields by name, such as "probabilities". In a structured distribution the part's
	// path precedes the name, as in "move.probabilities".
	Parameters map[string]Tensor
}

// Decodes the response to a session's step. Removes the batch axis for a single environment.
func readStep(response *pgkerasv1.PlayResponse, single bool) (*Actions, error) {
	if failure := response.GetError(); failure != nil {
		return nil, errorOfStep(failure)
	}
	if response.GetAct() == nil {
		return nil, unreadable("it has neither actions nor an error")
	}
	actions, err := readActions(response.GetAct())
	if err != nil {
		return nil, err
	}
	if actions.Hold, err = elements[bool](response.GetHold(), "hold"); err != nil {
		return nil, unreadable(err)
	}
	if single {
		if err := actions.first(response); err != nil {
			return nil, err
		}
	}
	return actions, nil
}

// Decodes a response. Returns a ServerFailedError if it is malformed.
func readActions(response *pgkerasv1.ActResponse) (*Actions, error) {
	if response.GetAction() == nil && response.GetStructuredAction() == nil {
		return nil, unreadable("it has no action")
	}
	actions, err := decodeActions(response)
	if err != nil {
		return nil, unreadable(err)
	}
	return actions, nil
}

func decodeActions(response *pgkerasv1.ActResponse) (*Actions, error) {
	actions := &Actions{State: response.GetState(), Policy: response.GetPolicy().GetName(), Version: response.GetPolicy().GetVersion()}
	var err error
	if message := response.GetStructuredAction(); message != nil {
		if actions.Parts, err = readParts(message, "structured_action"); err != nil {
			return nil, err
		}
	} else if actions.Action, err = DecodeTensor(response.GetAction(), "action"); err != nil {
		return nil, err
	}
	if message := response.GetStructuredGreedyAction(); message != nil {
		if actions.GreedyParts, err = readParts(message, "structured_greedy_action"); err != nil {
			return nil, err
		}
	}
	if actions.LogProb, err = elements[float32](response.GetLogProb(), "log_prob"); err != nil {
		return nil, err
	}
	if actions.Entropy, err = elements[float32](response.GetEntropy(), "entropy"); err != nil {
		return nil, err
	}
	if message := response.GetGreedyAction(); message != nil {
		greedy, err := DecodeTensor(message, "greedy_action")
		if err != nil {
			return nil, err
		}
		actions.GreedyAction = &greedy
	}
	if message := response.GetDistribution(); message != nil {
		if actions.Distribution, err = DecodeDistribution(message); err != nil {
			return nil, err
		}
	}
	return actions, nil
}

// Returns the elements of a tensor of type T, or nil if there is no tensor.
func elements[T Element](message *pgkerasv1.Tensor, field string) ([]T, error) {
	if message == nil {
		return nil, nil
	}
	tensor, err := DecodeTensor(message, field)
	if err != nil {
		return nil, err
	}
	if wanted := dataType[T](); tensor.dtype != wanted {
		return nil, &InvalidRequestError{Field: field + ".dtype", Expected: wanted.String(), Got: tensor.dtype.String()}
	}
	return Values[T](tensor)
}

// DecodeDistribution decodes a message. It returns nil if this client does not know the distribution's kind.
func DecodeDistribution(message *pgkerasv1.Distribution) (*Distribution, error) {
	reflected := message.ProtoReflect()
	kind := reflected.WhichOneof(reflected.Descriptor().Oneofs().ByName("kind"))
	if kind == nil {
		return nil, nil
	}
	found := &Distribution{Kind: string(kind.Name()), Parameters: map[string]Tensor{}}
	for key, part := range message.GetStructured().GetParts() {
		inner, err := DecodeDistribution(part)
		if err != nil {
			return nil, err
		}
		if inner == nil {
			continue
		}
		for name, parameter := range inner.Parameters {
			found.Parameters[key+"."+name] = parameter
		}
	}
	if message.GetStructured() != nil {
		return found, nil
	}
	var failed error
	reflected.Get(kind).Message().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if parameter, ok := value.Message().Interface().(*pgkerasv1.Tensor); ok {
			name := string(field.Name())
			found.Parameters[name], failed = DecodeTensor(parameter, "distribution."+found.Kind+"."+name)
		}
		return failed == nil
	})
	if failed != nil {
		return nil, failed
	}
	return found, nil
}

// Returns the leaves of a value, keyed by path.
func readParts(message *pgkerasv1.Value, field string) (map[string]Tensor, error) {
	found := map[string]Tensor{}
	var collect func(value *pgkerasv1.Value, path string) error
	collect = func(value *pgkerasv1.Value, path string) error {
		if value.GetFields() == nil {
			tensor, err := DecodeTensor(value.GetTensor(), field+"."+path)
			found[path] = tensor
			return err
		}
		for key, part := range value.GetFields().GetFields() {
			inner := key
			if path != "" {
				inner = path + "." + key
			}
			if err := collect(part, inner); err != nil {
				return err
			}
		}
		return nil
	}
	return found, collect(message, "")
}

// Drops the batch axis of actions that were decoded from response, the response to a batch of one.
func (a *Actions) first(response *pgkerasv1.PlayResponse) error {
	if a.Parts == nil {
		if err := a.Action.dropAxis(); err != nil {
			return err
		}
	}
	if a.GreedyAction != nil {
		if err := a.GreedyAction.dropAxis(); err != nil {
			return err
		}
	}
	rows := []map[string]Tensor{a.Parts, a.GreedyParts}
	if a.Distribution != nil {
		rows = append(rows, a.Distribution.Parameters)
	}
	for _, tensors := range rows {
		for name, tensor := range tensors {
			if err := tensor.dropAxis(); err != nil {
				return err
			}
			tensors[name] = tensor
		}
	}
	return cmp.Or(
		isOne(response.GetAct().GetLogProb()), isOne(response.GetAct().GetEntropy()), isOne(response.GetHold()),
	)
}

// Drops the leading axis, whose length must be 1.
func (t *Tensor) dropAxis() error {
	if len(t.Shape) == 0 || t.Shape[0] != 1 {
		return notOne(t.Shape)
	}
	t.Shape = t.Shape[1:]
	return nil
}

// Returns an error if there is a tensor and its shape is not [1].
func isOne(message *pgkerasv1.Tensor) error {
	if message == nil || slices.Equal(message.GetShape(), []int64{1}) {
		return nil
	}
	return notOne(message.GetShape())
}

func notOne[Length int | int64](shape []Length) error {
	return serverFailed("the server answered one observation with an array of shape %s", textOf(shape))
}
