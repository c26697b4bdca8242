"""What users build networks from: modules, layers, cells, time, models."""
