using System;

namespace Pgkeras.Example
{
    /// <summary>
    /// One cart. Equations and constants are from gymnasium/envs/classic_control/cartpole.py, after Barto, Sutton and
    /// Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems" (1983).
    /// </summary>
    public sealed class CartPole
    {
        public const double MaxX = 2.4;
        public const double MaxAngle = 12 * 2 * Math.PI / 360;

        private const double Gravity = 9.8;
        private const double MassPole = 0.1;
        private const double TotalMass = 1.0 + MassPole;
        private const double Length = 0.5; // half the length of the pole
        private const double Force = 10;
        private const double Tau = 0.02; // seconds per step
        private const int MaxSteps = 500;

        private readonly Random random;
        private double x;
        private double speed;
        private double angle;
        private double angularSpeed;
        private int age;

        public CartPole(Random random)
        {
            this.random = random;
            Reset();
        }

        public bool Terminated
        {
            get { return Math.Abs(x) > MaxX || Math.Abs(angle) > MaxAngle; }
        }

        public bool Truncated
        {
            get { return !Terminated && age >= MaxSteps; }
        }

        public void Reset()
        {
            Reset(Start(), Start(), Start(), Start());
        }

        /// <summary>Starts an episode in a given state. Units are meters, radians and seconds.</summary>
        public void Reset(double x, double speed, double angle, double angularSpeed)
        {
            this.x = x;
            this.speed = speed;
            this.angle = angle;
            this.angularSpeed = angularSpeed;
            age = 0;
        }

        public void Step(long action)
        {
            double push = action == 1 ? Force : -Force;
            double sine = Math.Sin(angle);
            double cosine = Math.Cos(angle);
            push = (push + (MassPole * Length * angularSpeed * angularSpeed * sine)) / TotalMass;
            double angularAcceleration = ((Gravity * sine) - (cosine * push))
                / (Length * ((4.0 / 3) - (MassPole * cosine * cosine / TotalMass)));
            double acceleration = push - (MassPole * Length * angularAcceleration * cosine / TotalMass);
            x += Tau * speed;
            speed += Tau * acceleration;
            angle += Tau * angularSpeed;
            angularSpeed += Tau * angularAcceleration;
            age++;
        }

        public void Observe(float[] into, int at)
        {
            into[at] = (float)x;
            into[at + 1] = (float)speed;
            into[at + 2] = (float)angle;
            into[at + 3] = (float)angularSpeed;
        }

        private double Start()
        {
            return (random.NextDouble() * 0.1) - 0.05;
        }
    }
}
