using System;
using System.Threading.Tasks;
using Pgkeras.Client;

namespace Pgkeras.Example
{
    /// <summary>Several carts in one session. A MonoBehaviour or a Node can call it at its own rate.</summary>
    public sealed class Simulator
    {
        private readonly Session session;
        private readonly CartPole[] carts;
        private readonly float[] observation;
        private readonly float[] reward;
        private readonly bool[] terminated;
        private readonly bool[] truncated;
        private readonly bool[] starts;
        private long[] actions;
        private bool[] hold;

        public Simulator(Session session, int environments)
        {
            this.session = session;
            var random = new Random(0);
            carts = new CartPole[environments];
            observation = new float[4 * environments];
            reward = new float[environments];
            terminated = new bool[environments];
            truncated = new bool[environments];
            starts = new bool[environments];
            for (int i = 0; i < environments; i++)
            {
                carts[i] = new CartPole(random);
                reward[i] = 1;
            }
        }

        /// <summary>Steps all carts and requests the next actions. Returns how many episodes have ended.</summary>
        public async Task<int> StepAsync()
        {
            if (actions == null)
            {
                actions = (await session.StepAsync(Observe())).Action.Longs();
                hold = session.Hold;
            }
            int ended = 0;
            for (int i = 0; i < carts.Length; i++)
            {
                if (hold != null && hold[i])
                {
                    // The cart repeats the first observation of its episode.
                    terminated[i] = truncated[i] = false;
                    starts[i] = true;
                    continue;
                }
                carts[i].Step(actions[i]);
                terminated[i] = carts[i].Terminated;
                truncated[i] = carts[i].Truncated;
                starts[i] = terminated[i] || truncated[i];
                if (starts[i])
                {
                    ended++;
                    carts[i].Reset();
                }
            }
            // The observation of a cart whose episode has ended is the first of its next episode.
            actions = (await session.StepAsync(Observe(), reward, terminated, truncated, starts)).Action.Longs();
            hold = session.Hold;
            return ended;
        }

        private V1.Tensor Observe()
        {
            for (int i = 0; i < carts.Length; i++)
            {
                carts[i].Observe(observation, 4 * i);
            }
            return Tensors.Of(observation, carts.Length, 4);
        }
    }
}
