package pgkeras

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// Output is a part of an answer besides the action.
type Output = pgkerasv1.ActOutput

// What an answer can have besides the action.
const (
	LogProb          = pgkerasv1.ActOutput_ACT_OUTPUT_LOG_PROB
	Entropy          = pgkerasv1.ActOutput_ACT_OUTPUT_ENTROPY
	WithDistribution = pgkerasv1.ActOutput_ACT_OUTPUT_DISTRIBUTION
	GreedyAction     = pgkerasv1.ActOutput_ACT_OUTPUT_GREEDY_ACTION
)

// CallOption changes how an action is chosen, or what is answered besides it.
type CallOption func(*choices)

type choices struct {
	mode    pgkerasv1.ActMode
	seed    *uint64
	outputs []Output
	mask    *Tensor
	state   []byte
	starts  []bool
	// Who plays; nil if it is not declared.
	simulator *Simulator
	// The names of the options that not every call takes.
	given []string
}

// Greedy takes the distribution's mode: the most probable action, or the mean. Without it, the action is drawn.
func Greedy() CallOption {
	return func(c *choices) { c.mode = pgkerasv1.ActMode_ACT_MODE_GREEDY }
}

// Seed makes the draw reproducible; that of a whole session, when it opens one.
func Seed(seed uint64) CallOption { return named("Seed", func(c *choices) { c.seed = &seed }) }

// Outputs says what to answer besides the action.
func Outputs(outputs ...Output) CallOption {
	return func(c *choices) { c.outputs = withAction(outputs) }
}

// Mask allows only the actions where it is true: bool, [mask_size], or [batch, mask_size] for a batch.
func Mask(mask Tensor) CallOption { return named("Mask", func(c *choices) { c.mask = &mask }) }

// State is, for policies with memory, that of the previous answer; none at the first step of an episode.
func State(state []byte) CallOption { return named("State", func(c *choices) { c.state = state }) }

// EpisodeStart tells, in a session, whether each observation is the first of an episode. Without it, those are that
// follow a step which said terminated or truncated, as with Gymnasium's next-step autoreset.
func EpisodeStart(starts ...bool) CallOption {
	return named("EpisodeStart", func(c *choices) { c.starts = starts })
}

// An option that not every call takes.
func named(name string, option CallOption) CallOption {
	return func(c *choices) {
		option(c)
		c.given = append(c.given, name)
	}
}

func newChoices(outputs []Output) choices {
	return choices{mode: pgkerasv1.ActMode_ACT_MODE_SAMPLE, outputs: withAction(outputs)}
}

// Goes by options, of which a call has no use for the refused ones.
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

// Actions are the answer for one observation or a batch; the tensors have a batch axis if the observations had one.
type Actions struct {
	// Action is of the action space's type and shape; without elements where that is a Dict or Tuple.
	Action Tensor
	// Parts are the action's leaves where the action space is a Dict or Tuple, by their paths with dots between the keys:
	// "move", or "hands.1" for the second part of a Tuple.
	Parts map[string]Tensor
	// LogProb is ln P(action | observation), one for each observation; nil if not asked for, like what follows.
	LogProb []float32
	// Entropy is the distribution's, in nats.
	Entropy []float32
	// GreedyAction is what Greedy would have done.
	GreedyAction *Tensor
	// GreedyParts are that by the paths of Parts.
	GreedyParts map[string]Tensor
	// Distribution is what the action was chosen from; nil also if it is of a kind that this client does not know.
	Distribution *Distribution
	// State is, for policies with memory, what to send with the next observation. A session holds it itself.
	State []byte
	// Policy and Version tell who answered.
	Policy  string
	Version int64
	// Hold is, from a policy in training, true for each environment that should not take its action, but show the same
	// first observation again in the next step, with EpisodeStart. It is nil where none should wait.
	Hold []bool
}

// Distribution is an action distribution.
type Distribution struct {
	// Kind is the name of the message in protos/pgkeras/v1/policy.proto, in lower case: "categorical",
	// "diagonal_gaussian" and so on.
	Kind string
	// Parameters are the message's fields by name, such as "probabilities"; those of a structured distribution have the
	// path of their part before it, as in "move.probabilities".
	Parameters map[string]Tensor
}

// The answer to a session's step; that to a single environment has no batch axis.
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

// An answer as arrays; what cannot be read is the server's failure.
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

// The elements of a tensor of one type; nil if there is no tensor.
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

// DecodeDistribution reads a message; nil if it is of a kind that this client does not know.
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

// The leaves of a value by their paths.
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

// Leaves the first row of answers to a batch of one, which they were read from.
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

// Drops the batch axis of an answer to a batch of one.
func (t *Tensor) dropAxis() error {
	if len(t.Shape) == 0 || t.Shape[0] != 1 {
		return notOne(t.Shape)
	}
	t.Shape = t.Shape[1:]
	return nil
}

// Whether a tensor, if there is one, has one number for one observation.
func isOne(message *pgkerasv1.Tensor) error {
	if message == nil || slices.Equal(message.GetShape(), []int64{1}) {
		return nil
	}
	return notOne(message.GetShape())
}

func notOne[Length int | int64](shape []Length) error {
	return serverFailed("the server answered one observation with an array of shape %s", textOf(shape))
}
