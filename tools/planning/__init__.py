"""Plans of a training on chips that are not there, by the compilers that would compile it."""
