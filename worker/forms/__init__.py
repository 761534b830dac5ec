"""The forms in which an answer is given: the platform's native one, and OpenAI's three. No routes, no engine."""
