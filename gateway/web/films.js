// Whether films that are dropped on a page open there: at a gateway they do not. `mvgateway film` has another answer here.

export const takesThem = false;
