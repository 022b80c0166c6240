using System;
using System.Globalization;
using Pgkeras.Example;

/// <summary>Prints the trajectory of the cart. The first argument has one action (a digit) per step.</summary>
public static class Trajectory
{
    public static void Main(string[] words)
    {
        var cart = new CartPole(new Random(0));
        cart.Reset(0.01, -0.02, 0.03, -0.04);
        var observation = new float[4];
        foreach (char action in words[0])
        {
            cart.Step(action - '0');
            cart.Observe(observation, 0);
            foreach (float number in observation)
            {
                Console.Write(number.ToString("R", CultureInfo.InvariantCulture) + " ");
            }
            Console.WriteLine(cart.Terminated ? 1 : 0);
        }
    }
}
