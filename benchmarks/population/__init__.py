"""How much one population costs against one trial after another: the figures of the packed trainer."""
