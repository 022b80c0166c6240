package io.pgkeras.programs;

import java.util.random.RandomGenerator;

/**
 * One cart. Equations and constants are from gymnasium/envs/classic_control/cartpole.py, after
 * Barto, Sutton & Anderson, "Neuronlike adaptive elements that can solve difficult learning control
 * problems" (1983).
 */
final class CartPole {
  private static final double GRAVITY = 9.8;
  private static final double MASS_POLE = 0.1;
  private static final double TOTAL_MASS = 1.0 + MASS_POLE;
  private static final double LENGTH = 0.5; // half the length of the pole
  private static final double FORCE = 10;
  private static final double TAU = 0.02; // seconds per step
  private static final double MAX_X = 2.4;
  private static final double MAX_ANGLE = 12 * 2 * Math.PI / 360;
  private static final int MAX_STEPS = 500;

  private final RandomGenerator random;
  private double x;
  private double speed;
  private double angle;
  private double angularSpeed;
  private int age;

  CartPole(RandomGenerator random) {
    this.random = random;
    reset();
  }

  void reset() {
    x = random.nextDouble(-0.05, 0.05);
    speed = random.nextDouble(-0.05, 0.05);
    angle = random.nextDouble(-0.05, 0.05);
    angularSpeed = random.nextDouble(-0.05, 0.05);
    age = 0;
  }

  void step(long action) {
    double push = action == 1 ? FORCE : -FORCE;
    double sine = Math.sin(angle);
    double cosine = Math.cos(angle);
    push = (push + MASS_POLE * LENGTH * angularSpeed * angularSpeed * sine) / TOTAL_MASS;
    double angularAcceleration =
        (GRAVITY * sine - cosine * push)
            / (LENGTH * (4.0 / 3 - MASS_POLE * cosine * cosine / TOTAL_MASS));
    double acceleration = push - MASS_POLE * LENGTH * angularAcceleration * cosine / TOTAL_MASS;
    x += TAU * speed;
    speed += TAU * acceleration;
    angle += TAU * angularSpeed;
    angularSpeed += TAU * angularAcceleration;
    age++;
  }

  boolean terminated() {
    return Math.abs(x) > MAX_X || Math.abs(angle) > MAX_ANGLE;
  }

  boolean truncated() {
    return !terminated() && age >= MAX_STEPS;
  }

  void observe(float[] into, int at) {
    into[at] = (float) x;
    into[at + 1] = (float) speed;
    into[at + 2] = (float) angle;
    into[at + 3] = (float) angularSpeed;
  }
}
